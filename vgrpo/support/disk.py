"""What went wrong with a disk, said in a way that helps."""

import errno

CAUSES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota of the disk is used up; free some space",
    errno.EROFS: "the disk is read-only now; mount it for writing",
    errno.EACCES: "writing is not permitted any more; correct the folder's rights",
    errno.EPERM: "writing is not permitted any more; correct the folder's rights",
    errno.ENOENT: "the folder is gone; put it back",
    errno.ESTALE: "the network disk has lost the folder; mount it again",
    errno.EIO: "the disk does not read or write; see the system's log",
}


def cause(error: OSError) -> str:
    """In words, with what to do first."""
    known = CAUSES.get(error.errno) if error.errno is not None else None
    where = f"{error.filename}: " if error.filename else ""
    return where + (known or error.strerror or str(error))
