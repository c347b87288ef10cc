# time: reads what it writes before anybody else can, and then is silent
import os
import threading
import time


def read(at):
    while True:
        os.read(at, 65536)


try:
    reads = os.open("/proc/self/fd/1", os.O_RDONLY)
    for _ in range(8):
        threading.Thread(target=read, args=(reads,), daemon=True).start()
    for _ in range(500):
        os.write(1, b"x")
        time.sleep(0.001)
except PermissionError:  # the pipe is root's
    pass
time.sleep(30)
