"""`try_lock`, which locks files and folders where the system can."""

try:
    import fcntl
except ImportError:  # Windows: unfinished files of killed processes stay
    fcntl = None


def try_lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks a file or a folder until its descriptor is closed; returns False if it is locked or can't be."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked by another process, or a file system without locks
        return False
    return True
