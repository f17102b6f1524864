print("other.py")
