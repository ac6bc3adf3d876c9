"""What a real GPU draws while the process that computes on it is stopped: reads only, no setting is touched.

    python -m containers.bench.paused_gpu [--seconds 10]

A child keeps the first GPU busy through the driver's own interface (no CUDA toolkit, no torch), is stopped
with SIGSTOP and continued with SIGCONT, while the parent reads the power by NVML. Prints the mean draw
before the child exists, with its context and no work, busy, stopped and busy again, and how soon after each
signal the draw was half way.
"""

import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import click
import pynvml

# A chain of multiply-adds in each thread, as many rounds as the parameter says. One word is written.
_PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry burn(.param .u64 out, .param .u32 rounds)
{
  .reg .pred %p; .reg .f32 %a, %b, %c, %d, %e; .reg .u32 %i, %n; .reg .u64 %o;
  ld.param.u64 %o, [out]; ld.param.u32 %n, [rounds];
  mov.f32 %a, 0f3F800001; mov.f32 %b, 0f3F7FFFFE; mov.f32 %c, 0f3F800003; mov.f32 %d, 0f3F7FFFF0;
  mov.f32 %e, 0f3F7FFFFF;
  mov.u32 %i, 0;
again:
  fma.rn.f32 %a, %a, %e, %b; fma.rn.f32 %b, %b, %e, %c; fma.rn.f32 %c, %c, %e, %d; fma.rn.f32 %d, %d, %e, %a;
  fma.rn.f32 %a, %a, %e, %c; fma.rn.f32 %b, %b, %e, %d; fma.rn.f32 %c, %c, %e, %a; fma.rn.f32 %d, %d, %e, %b;
  add.u32 %i, %i, 1;
  setp.lt.u32 %p, %i, %n;
  @%p bra again;
  add.f32 %a, %a, %b; add.f32 %a, %a, %c; add.f32 %a, %a, %d;
  cvta.to.global.u64 %o, %o;
  st.global.f32 [%o], %a;
  ret;
}
\0"""
_BLOCKS, _THREADS, _ROUNDS = 2048, 512, 60_000


def _burn() -> None:
    """Keep the first GPU busy, in kernels of some tens of milliseconds; the first after a line on stdin."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: object) -> None:
        status = getattr(cuda, name)(*arguments)
        if status != 0:
            raise SystemExit(f"{name} answered {status}")

    device, context, module, kernel = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    memory = ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    call("cuModuleLoadData", ctypes.byref(module), _PTX)
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"burn")
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4))
    rounds = ctypes.c_uint32(_ROUNDS)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(memory), ctypes.addressof(rounds))
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        call("cuLaunchKernel", kernel, _BLOCKS, 1, 1, _THREADS, 1, 1, 0, None, values, None)
        call("cuCtxSynchronize")


def _watch(handle: object, seconds: float) -> list[tuple[float, float]]:
    """Power in watts by time in seconds since now, ten times a second."""
    began = time.monotonic()
    readings = []
    while (passed := time.monotonic() - began) < seconds:
        readings.append((passed, pynvml.nvmlDeviceGetPowerUsage(handle) / 1000.0))
        time.sleep(0.1)
    return readings


def _settled(readings: list[tuple[float, float]]) -> float:
    """Mean of the second half, when what the signal changed is over."""
    return statistics.mean(watts for _, watts in readings[len(readings) // 2 :])


def _half_way_seconds(readings: list[tuple[float, float]], before: float, after: float) -> float | None:
    middle = (before + after) / 2.0
    crossed = (passed for passed, watts in readings if (watts > middle) == (after > before))
    return next(crossed, None)


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Length of each part.")
@click.option("--burn", is_flag=True, hidden=True)
def main(seconds: float, burn: bool) -> None:
    """Draw of a GPU while its process is stopped."""
    if burn:
        _burn()
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    result: dict[str, object] = {"gpu": pynvml.nvmlDeviceGetName(handle), "part_seconds": seconds}
    result["alone_watts"] = _settled(_watch(handle, seconds))
    child = subprocess.Popen(
        [sys.executable, "-m", "containers.bench.paused_gpu", "--burn"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            raise click.ClickException(f"no work on the GPU: {child.wait()}")
        context_watts = result["context_watts"] = _settled(_watch(handle, seconds))
        child.stdin.write("go\n")
        child.stdin.flush()
        busy = _settled(_watch(handle, seconds))
        os.kill(child.pid, signal.SIGSTOP)
        readings = _watch(handle, seconds)
        stopped = _settled(readings)
        result |= {"busy_watts": busy, "stopped_watts": stopped, "context_watts": context_watts}
        result["stop_half_way_seconds"] = _half_way_seconds(readings, busy, stopped)
        os.kill(child.pid, signal.SIGCONT)
        readings = _watch(handle, seconds)
        again = result["busy_again_watts"] = _settled(readings)
        result["continue_half_way_seconds"] = _half_way_seconds(readings, stopped, again)
    finally:
        child.kill()
        child.wait()
    result["after_watts"] = _settled(_watch(handle, seconds))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
