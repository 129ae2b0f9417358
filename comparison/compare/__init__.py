"""Times rhumb and its peers on the same tensors in one run: started by `comparison/run.py`."""
