"""Tests of what needs neither peers nor a compiler.

`python3 -m unittest discover -s compare/tests -t .` in `comparison/` runs them.
"""
