print("thing.py")
