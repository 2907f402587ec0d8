"""What every other subpackage may use: errors, messages, files, processes, devices."""
