"""The checker: it compares what backward claims with what forward does. NumPy alone; knows no layer of this project.

Start reading at `check.py`.
"""
