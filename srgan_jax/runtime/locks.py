"""`try_lock`, which locks files and folders if the system supports it."""

try:
    import fcntl
except ImportError:  # Windows: temporary files of killed processes are not deleted
    fcntl = None


def try_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks a file or folder until its descriptor is closed; returns False if another process holds the lock.

    Also returns False if the system or the file system has no locks.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked by another process, or a file system without locks
        return False
    return True
