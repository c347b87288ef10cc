# memory: its first thread ends, and with it what is told of the process
import ctypes
import threading
import time


def take():
    held = []
    for _ in range(24):
        held.append(b"x" * (8 << 20))
        time.sleep(0.02)
    print("ESCAPED", flush=True)


threading.Thread(target=take).start()
ctypes.CDLL(None).syscall(60, 0)
