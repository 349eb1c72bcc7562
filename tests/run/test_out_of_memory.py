"""Memory that ran out is told as such, in whose words ever; what only may mean it is told as that."""

from __future__ import annotations

import os
import sys

import pytest

from profiler.backends.base import BackendError, FallbackError
from profiler.backends.onnx_session import one_sentence
from profiler.errors import UserError
from profiler.records.types import Failure
from profiler.run.child import Limits, failure
from profiler.run.processes import LocalExecutor

ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'/0/Conv'"
    " Status Message: \n/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void*"
    " onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
)

#: What was found in reports of users, word for word.
RAN_OUT = {
    "CUDA": "CUDA out of memory. Tried to allocate 10.01 GiB. GPU 0 has a total capacity of 14.75 GiB",
    "CUDA's driver": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA by name": "cudaErrorMemoryAllocation",
    "the driver by name": "CUDA_ERROR_OUT_OF_MEMORY",
    "HIP": "HIP out of memory. Tried to allocate 20.00 MiB",
    "HIP by name": "hipErrorOutOfMemory",
    "XPU": "XPU out of memory. Tried to allocate 4.00 GiB",
    "Level Zero": "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Level Zero's host": "level_zero backend failed with error: 38 (UR_RESULT_ERROR_OUT_OF_HOST_MEMORY)",
    "SYCL": "Native API failed. Native API returns: -997 (PI_ERROR_MEM_OBJECT_ALLOCATION_FAILURE)",
    "MPS": "MPS backend out of memory (MPS allocated: 9.57 GiB, other allocations: 17.35 GiB, max allowed: 27.20 GiB)",
    "Metal": "Invalid buffer size: 9.75 GiB",
    "Metal's buffer": "Failed to allocate private MTLBuffer for size 1073741824",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuBLAS of old": "cublas runtime error : resource allocation failed at THCGeneral.cpp:228",
    "cuBLAS in ONNX Runtime": "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=x ; expr=cublasCreate",
    "hipBLAS": "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "rocBLAS": "rocblas_status_memory_error",
    "cuDNN": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN 9": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cuDNN 9's host": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "cuFFT": "cuFFT error: CUFFT_ALLOC_FAILED",
    "cuSOLVER": "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "MIOpen": "MIOpen Error: /src/hip/handlehip.cpp:70: Memory not available to allocate buffer: 655360000",
    "MIOpen's status": "miopenStatusAllocFailed",
    "the arena": ARENA + "Failed to allocate memory for requested buffer of size 939524096",
    "the arena's limit": ARENA + "Available memory of 0 is smaller than requested bytes of 135383040",
    "CUDA in ONNX Runtime": "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; file=cuda_allocator.cc ; line=48",
    "TensorRT": "Requested amount of GPU memory (10737418240 bytes) could not be allocated.",
    "the CPU": "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    " allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)",
    "the CPU on Windows": "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried",
    "Linux": "[Errno 12] Cannot allocate memory",
    "C++": "std::bad_alloc",
    "C++ on Windows": "bad allocation",
    "NumPy": "Unable to allocate 59.6 GiB for an array with shape (8000000000,) and data type float64",
}

MAY_HAVE = {
    "cuDNN": "GET was unable to find an engine to execute this computation",
    "cuDNN's search": "FIND was unable to find an engine to execute this computation",
    "cuDNN of old": "Unable to find a valid cuDNN algorithm to run convolution",
    "cuDNN's size": "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"
    " input.",
    "cuDNN in ONNX Runtime": "CUDNN failure 9: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0 ; expr=cudnnSetTensorNdDescriptor",
    "cuDNN's execution": "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuBLAS's handle": "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuFFT": "cuFFT error: CUFFT_INTERNAL_ERROR",
    "Level Zero": "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "oneDNN": "could not create a primitive",
}

NOT_MEMORY = {
    "an index": "CUDA error: an illegal memory access was encountered",
    "a library": "libgomp.so.1: cannot allocate memory in static TLS block",
    "the wrong package": "Can't allocate memory on the CUDA device using this package of OnnxRuntime. Please use the"
    " CUDA package of OnnxRuntime to use this feature.",
    "shared memory": "DataLoader worker (pid 5) is killed by signal: Bus error. Workers are out of shared memory.",
    "NCCL": "NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5 "
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.",
    "a shape": "mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2)",
    "no kernel": "CUDA error: no kernel image is available for execution on the device",
}


@pytest.mark.parametrize("who", RAN_OUT)
def test_memory_that_ran_out_is_told_as_such(who: str) -> None:
    made = failure(RuntimeError(RAN_OUT[who]))
    assert made.status == "oom"
    assert made.reason.startswith("out of memory: ")
    assert "try a smaller batch" in made.reason


@pytest.mark.parametrize("who", MAY_HAVE)
def test_where_memory_is_one_cause_both_are_told(who: str) -> None:
    made = failure(RuntimeError(MAY_HAVE[who]))
    assert made.status == "error"
    assert MAY_HAVE[who].rstrip(".") in made.reason
    assert "memory may have run out, or" in made.reason


@pytest.mark.parametrize("who", NOT_MEMORY)
def test_what_has_nothing_to_do_with_memory_does_not_speak_of_it(who: str) -> None:
    made = failure(RuntimeError(NOT_MEMORY[who]))
    assert made.status == "error"
    assert made.reason == f"RuntimeError: {NOT_MEMORY[who]}"


def test_an_exception_without_words_has_a_name() -> None:
    assert failure(MemoryError()).reason.startswith("out of memory: MemoryError; try")
    assert failure(type("OutOfMemoryError", (RuntimeError,), {})()).status == "oom"


def raised(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except type(error) as made:
        return made


@pytest.mark.parametrize("kind", [BackendError, FallbackError, UserError])
def test_what_a_backend_made_of_it_is_not_the_remedy(kind: type[Exception]) -> None:
    made = failure(raised(kind("it cannot be captured: leave cuda_graph out"), RuntimeError(RAN_OUT["CUDA"])))
    assert made.status == "oom"
    assert RAN_OUT["CUDA"] in made.reason
    assert "leave cuda_graph out" not in made.reason


def test_the_second_line_of_onnxruntimes_message_counts_too() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    with pytest.raises(BackendError) as said, one_sentence("onnxruntime cannot bind input and output"):
        raise RuntimeException(RAN_OUT["the arena"])
    made = failure(said.value)
    assert made.status == "oom"
    assert "onnx.checker" not in made.reason


def test_the_name_of_a_model_says_nothing_of_memory() -> None:
    assert failure(UserError("model 'out_of_memory.onnx': no such file; expected a path")).status == "error"


def aborts(words: str) -> None:
    os.write(2, words.encode())
    os.abort()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", "oom"),
        ("double free or corruption", "crashed"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_a_process_whose_last_words_are_of_memory_ran_out_of_it(words: str, status: str) -> None:
    executor = LocalExecutor()
    try:
        made = executor.call(aborts, words, 30.0, Limits())
    finally:
        executor.close()
    assert isinstance(made, Failure)
    assert made.status == status
    assert "SIGABRT" in made.reason
    assert words in made.detail
