# exit: starts threads until it may not; the last word is an error
import threading

never = threading.Event()
while True:
    threading.Thread(target=never.wait, daemon=True).start()
