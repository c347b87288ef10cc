# exit: opens pipes and fills them until it may not
import os

held = []
while True:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    try:
        os.write(writes, b"x" * 65536)
    except BlockingIOError:
        pass
    held.append(reads)
