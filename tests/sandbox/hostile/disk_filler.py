# exit: fills its folder until there is no space
for at in range(10**6):
    with open(f"file{at}", "wb") as file:
        file.write(b"x" * (1 << 20))
