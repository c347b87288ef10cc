# exit: leaves the dead lying about until it may start nobody any more
import os

while True:
    if os.fork() == 0:
        os._exit(0)
