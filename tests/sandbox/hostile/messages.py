# ok: queues of messages and semaphores, which are the kernel's memory
import ctypes

libc = ctypes.CDLL(None)
n = 0
message = ctypes.create_string_buffer(b"\1" + bytes(7) + b"x" * 8192)
while n < 1000 and (queue := libc.msgget(0, 0o1600)) != -1:
    while libc.msgsnd(queue, message, 8192, 0o4000) == 0:
        n += 1
if n:
    print("ESCAPED", n * 8192)
if libc.semget(0, 32000, 0o1600) != -1:
    print("ESCAPED")
