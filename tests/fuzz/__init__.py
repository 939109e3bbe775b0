"""Random inputs through every door of the package: `python -m fuzz` in the folder of the tests."""
