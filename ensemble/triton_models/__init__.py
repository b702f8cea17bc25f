"""What runs inside Triton. Export copies this package next to each model's `model.py`, as `marquee_serving`.

It imports numpy, pyarrow, ONNX Runtime and pydantic, nothing of training and nothing else of the project, and unpickles
nothing. Its modules import each other relatively, so that they work under both names. All but the three that define a
`TritonPythonModel` and `backend` work without Triton too.
"""

import os

# ONNX Runtime collects what it is used for in a database under the home folder and sends it, unless this is set before
# it is imported: that is the reason why it is here, where no module of the package can be before it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
