"""What runs inside Triton. Export copies this package next to each model's `model.py`, as `marquee_serving`.

It imports numpy, pyarrow, ONNX Runtime and pydantic, nothing of training and nothing else of the project, and unpickles
nothing. Its modules import each other relatively, so that they work under both names. All but the three that define a
`TritonPythonModel` and `backend` work without Triton too.
"""
