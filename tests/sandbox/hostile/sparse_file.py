# exit: a file of a terabyte without a byte in it
with open("sparse", "wb") as file:
    file.truncate(1 << 40)
