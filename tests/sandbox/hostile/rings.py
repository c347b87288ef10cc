# ok: has the kernel work for it in the background
import ctypes

parameters = ctypes.create_string_buffer(256)
if ctypes.CDLL(None).syscall(425, 8, parameters) != -1:
    print("ESCAPED")
