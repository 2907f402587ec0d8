"""What every other subpackage may use: errors, messages, table lookup, file writing, processes, devices."""
