# ok: mounts over, anew and writable
import ctypes
import os

libc = ctypes.CDLL(None)
os.mkdir("here")
for kind, flags in ((b"proc", 0), (b"sysfs", 0), (b"tmpfs", 0), (b"overlay", 0), (None, 4096)):
    if libc.mount(b"/usr", b"/tmp/here", kind, flags, None) == 0:
        print("ESCAPED", kind)
if libc.mount(None, b"/", None, 32 | 4096, None) == 0 or libc.umount2(b"/tmp", 2) == 0:
    print("ESCAPED")
if libc.chroot(b"/tmp/here") == 0 or libc.pivot_root(b"/tmp", b"/tmp/here") == 0:
    print("ESCAPED")
