"""Run exported files on the CPU, in ONNX Runtime and OpenVINO."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor


def onnxruntime_call(
    path: Path, x: Tensor, num_threads: int
) -> Callable[[], list[object]]:
    """Make a call without arguments that runs an ONNX file once, on the CPU.

    The file must have one input. It is read here, not in the first call.
    """
    from onnxruntime import InferenceSession, SessionOptions  # of the "deploy" extra

    options = SessionOptions()
    options.intra_op_num_threads = num_threads
    # Sessions take turns: spinning threads of one would take cores from the other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def openvino_call(path: Path, x: Tensor, num_threads: int) -> Callable[[], object]:
    """Make a call without arguments that runs a file in OpenVINO, in float32 on a CPU.

    The file, OpenVINO's or ONNX, has one input.
    """
    from openvino import Core  # of the "openvino" extra

    # By default it convolves in bfloat16, where the CPU can.
    options = dict(INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=num_threads)
    request = Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda: request.infer([x.numpy()])
