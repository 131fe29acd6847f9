"""Triton kernels: right in the interpreter, and compiled for every GPU shipped, without spills."""

import ast
import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pydisent
from pydisent.ops.registry import REGISTRY

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
needs_sources = pytest.mark.skipif(
    not (Path(__file__).parents[2] / "bench").is_dir(),
    reason="the sources are not beside the tests",
)
WITH_TRITON = [name for name, op in REGISTRY.items() if op.spec.triton]
FAMILIES = sorted({REGISTRY[name].spec.family for name in WITH_TRITON})

IN_INTERPRETER = """
import importlib, json, numpy, torch
from _accuracy import breaches, samples
from triton.runtime import interpreter
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import tuple_of

convert_float = interpreter._convert_float
def rounding(data, source, target, mode):
    if (source.name, target.name) != ("fp32", "bf16"):
        return convert_float(data, source, target, mode)
    # The interpreter cuts digits off here, where a GPU rounds to the nearest.
    return torch.from_numpy(data.copy()).bfloat16().view(torch.int16).numpy().view("uint16")
interpreter._convert_float = rounding

# Matrix units get float32 numbers as two of 11 bits, and leave out the product of the lesser ones.
def narrow(x):
    bits = x.view("uint32")
    return ((bits + 0x1000) & ~numpy.uint32(0x1FFF)).view("float32")
exact_dot = interpreter.InterpreterBuilder.create_dot
def dot_of_two(self, a, b, d, *options):
    if a.data.dtype != numpy.float32:
        return exact_dot(self, a, b, d, *options)
    x, y = narrow(a.data), narrow(b.data)
    u, v = narrow(a.data - x), narrow(b.data - y)
    products.append(a.data.shape)
    total = numpy.nan_to_num(numpy.matmul(u, y) + numpy.matmul(x, v)) + numpy.matmul(x, y) + d.data
    return interpreter.TensorHandle(total, d.dtype.scalar)
interpreter.InterpreterBuilder.create_dot, products = dot_of_two, []

OPS = {name: op for name, op in REGISTRY.items() if op.spec.triton}
ran = []
def spied(name, launch):
    return lambda *args: (ran.append(name), launch(*args))[1]
modules = {}
for name, op in OPS.items():
    family = op.spec.family
    modules[family] = module = importlib.import_module(f"pydisent.triton_kernels.{family}")
    setattr(module, name, spied(name, getattr(module, name)))

def gradients(op, args, impl):
    leaves = [x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point()
              else x for x in args]
    wanted = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
    outputs = tuple_of(op(*leaves, impl=impl))
    return torch.autograd.grad(sum((y ** 2).sum() for y in outputs), wanted, allow_unused=True)

launched = {}
for name, op in OPS.items():
    if op.spec.adjoint is not None:
        args = samples(name, torch.float64)[0]
        ran.clear()
        for got, want in zip(gradients(op, args, "triton"), gradients(op, args, "reference")):
            torch.testing.assert_close(got, want)
        launched[name] = list(ran)

# Each sample in one dtype, by turns, and a small one in all of them: programs run one by one here.
turns = [torch.float32, torch.float16, torch.float64, torch.float32, torch.bfloat16]
def size(args):
    return sum(x.numel() for x in args if isinstance(x, torch.Tensor))
def broken(name):
    sizes = [size(args) for args in samples(name, torch.float32)]
    small = sizes.index(sorted(sizes)[len(sizes) // 4])
    for dtype in dict.fromkeys(turns):
        places = [i for i in range(len(sizes)) if i == small or turns[i % 5] == dtype]
        yield from breaches(name, dtype, impl="triton", places=places)
accuracy = {name: list(broken(name)) for name in OPS}

# What one pass makes of codes far from zero, of which the first rows are far from the others.
def off(got, ref, exact):
    error, bound = ((x.double() - exact).abs().max() for x in (got, ref))
    return not error <= 2 * bound + 16 * 2**-23 * exact.abs().max()
far = []
generator = torch.Generator().manual_seed(0)
for rows in (1, 40, 299):
    x = 1e4 + torch.randn(2, 300, 20, dtype=torch.float64, generator=generator)
    x[:, :rows] -= 3e4
    x, y = x.float()
    for name, args in (("covariance_penalty", (x, None, 5.0, 1.0)),
                       ("cross_covariance_penalty", (x, y)),
                       ("third_central_moment_penalty", (x, y / 1e4))):
        op, exact = OPS[name], [x.double() if isinstance(x, torch.Tensor) else x for x in args]
        results = [tuple_of(op(*args, impl=impl)) for impl in ("triton", "reference")]
        results.append(tuple_of(op(*exact, impl="reference")))
        far += [(name, rows, i) for i, three in enumerate(zip(*results)) if off(*three)]

# Blocks so small that the largest sample takes several along every axis.
SMALL = {"gates": {"_ROW": 32, "_SIDE": 16}, "latent": {"_BLOCK": 64},
         "covariance": {"_TILE": 16, "_ROWS": 16, "_COLUMNS": 16, "_LEAST": 4},
         "constriction": {"_TILE": 64, "_PLANE": 16, "_NUMBERS": 5, "_PROGRAMS": 2}}
for family, constants in SMALL.items():
    for name, value in constants.items():
        assert hasattr(modules[family], name)
        setattr(modules[family], name, value)
    for shape in vars(modules[family]).values():
        if hasattr(shape, "cache_clear"):
            shape.cache_clear()
def in_blocks(name):
    sizes = [size(args) for args in samples(name, torch.float32)]
    return breaches(name, torch.float32, impl="triton", places=[sizes.index(max(sizes))])
blocks = {name: in_blocks(name) for name, op in OPS.items() if op.spec.family in SMALL}
assert products
print(json.dumps({"launched": launched, "accuracy": accuracy, "far": far, "blocks": blocks}))
"""


@pytest.fixture(scope="module")
def interpreted():
    """Of one process, for to start one takes seconds."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYDISENT_IMPL", None)
    result = subprocess.run(
        [sys.executable, "-c", IN_INTERPRETER],
        cwd=Path(__file__).parent,  # for _accuracy
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@needs_triton
@pytest.mark.slow
def test_interpreter_gives_the_numbers_of_the_reference(interpreted):
    """The one rule of accuracy, as for every other implementation."""
    assert list(interpreted["accuracy"]) == WITH_TRITON
    assert not any(interpreted["accuracy"].values()), interpreted["accuracy"]


@needs_triton
@pytest.mark.slow
def test_blocks_of_any_size_give_the_same(interpreted):
    assert interpreted["blocks"]
    assert not any(interpreted["blocks"].values()), interpreted["blocks"]


@needs_triton
@pytest.mark.slow
def test_one_pass_keeps_the_digits_of_codes_far_from_zero(interpreted):
    assert not interpreted["far"]


@needs_triton
@pytest.mark.slow
def test_backward_runs_the_triton_kernel_too(interpreted):
    assert set(interpreted["launched"]) == {n for n in WITH_TRITON if REGISTRY[n].spec.adjoint}
    for name, launched in interpreted["launched"].items():
        assert launched[0] == name
        assert len(launched) >= 2


def kernels_of(family):
    return importlib.import_module(f"pydisent.triton_kernels.{family}")


@needs_triton
def test_every_triton_file_serves_an_op():
    package = importlib.import_module("pydisent.triton_kernels")
    files = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    assert files == set(FAMILIES)


@needs_triton
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kernel_is_listed_for_compilation(family):
    from triton.runtime.jit import JITFunction

    module = kernels_of(family)
    kernels = {
        name
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and name.endswith("_kernel")
    }
    assert kernels
    assert kernels == {entry[0].__name__ for entry in module.COMPILE}


@needs_triton
def test_every_kernel_launched_is_listed():
    """Whatever its name: kernel[grid](...) in a file of kernels."""
    from triton.runtime.jit import JITFunction

    for family in FAMILIES:
        module = kernels_of(family)
        launched = {
            node.func.value.id
            for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Subscript)
            and isinstance(node.func.value, ast.Name)
        }
        assert all(isinstance(getattr(module, name), JITFunction) for name in launched)
        assert launched == {entry[0].__name__ for entry in module.COMPILE}


@needs_triton
@pytest.mark.slow
@needs_sources
@pytest.mark.parametrize("family", FAMILIES)
def test_machine_code_is_within_its_budget(family, budgets, hold, tmp_path, monkeypatch):
    """As a large problem launches them, in a dtype; ``make budgets`` compiles all for all GPUs."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    file, places, names = f"{family}.py", {}, set()
    for place, (kernel, signature, constants, *options) in enumerate(kernels_of(family).COMPILE):
        places[kernel.__name__] = place
        launch = options[0] if options else {}
        names.add(budgets.configuration(kernel, signature, constants, launch))
    assert names == budgets.load()["kernels"][file].keys()
    dtype = ("float32", "bfloat16")[FAMILIES.index(family) % 2]
    launched = budgets.launched_resources(family, [dtype], tmp_path)
    hold(file + budgets.LAUNCHED, budgets.HOT, launched)
    others = [places[name] for name in places.keys() - {name.split()[0] for name in launched}]
    hold(file, budgets.HOT, budgets.triton_resources(family, budgets.HOT, tmp_path, others))


@needs_triton
@pytest.mark.parametrize("family", FAMILIES)
def test_compiles_where_integers_are_one(family):
    """Triton makes constants of such arguments, which have no dtype to convert by."""
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend

    target = GPUTarget("cuda", 100, 32)
    backend, context = make_backend(target), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    options = backend.parse_options({})
    rest = backend.get_codegen_implementation(options), backend.get_module_map(), context
    first = {entry[0].__name__: entry for entry in reversed(kernels_of(family).COMPILE)}
    for kernel, signature, constants, *_ in first.values():
        ones = {
            name: 1
            for name, kind in signature.items()
            if kind in ("i32", "i64") and name not in (kernel.do_not_specialize or ())
        }
        signature = signature | dict.fromkeys(ones, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants | ones)
        assert "tt.store" in str(source.make_ir(target, options, *rest))


def test_asking_for_a_triton_kernel_that_is_not_there():
    gram, probe, mask = torch.eye(2)[None], torch.ones(1, 2, 1), torch.ones(2, 1)
    with pytest.raises(RuntimeError, match="this op has no Triton kernel"):
        pydisent.ops.masked_power_iteration(gram, probe, mask, 1, impl="triton")
