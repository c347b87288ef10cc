# ok: lends its memory to a pipe, where it stays when the program has let go of it
import ctypes
import os

libc = ctypes.CDLL(None)
reads, writes = os.pipe()
page = ctypes.create_string_buffer(b"x" * 4096)
lent = (ctypes.c_void_p * 2)(ctypes.addressof(page), 4096)
if libc.vmsplice(writes, lent, 1, 0) != -1:
    print("ESCAPED")
