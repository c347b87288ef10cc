# time: no process lives long, all of them burn
import os

while True:
    pid = os.fork()
    if pid == 0:
        for _ in range(10**5):
            pass
        os._exit(0)
    os.waitpid(pid, 0)
