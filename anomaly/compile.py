"""The one place that meets numba: kernels are compiled here, cached where that is possible."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, typeof, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, overload
from numba.np import arrayobj

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_INTRINSIC = {"_nrt": False, "forceinline": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": True}
F = TypeVar("F", bound=Callable[..., object])


class _Cache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache on disk, but a disk that cannot be read or written only costs the time to compile.

    Numba looks at the kernel's own file. Ours hold what the files beside them say as well, constants and kernels that
    are compiled into them: any change in their folder makes them anew.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        stamp = _stamp(Path(function.__code__.co_filename).parent)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            _warn(str(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn(str(error))


@cache
def _stamp(folder: Path) -> str:
    """Hex digest of the sources in a folder, and of this one."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kernel(function: F) -> F:
    """Compile `function` without reference counts (twice as fast; so it may not allocate) and without fastmath.

    No index of an array may be negative: nothing looks whether it counts from the end, which kept most loops from
    becoming vector instructions.

    `function.py_func` stays the plain Python oracle with the same bits. Where no cache folder can be written the
    kernel is compiled in memory, with a warning.
    """
    compiled = _compiled(function, whole=True)
    try:
        compiled._cache = _Cache(function)  # noqa: SLF001  # as njit(cache=True) does, with a cache that may fail
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        _warn("no folder for them can be written")
    return cast(F, compiled)


def direct(compiled: F) -> F:
    """A kernel without numba's look at the types of all arguments, which for named tuples takes ten times as long as
    the rest of a call. They have to be those of the first call at each call: of an array nothing is looked at but the
    size of an item, so that this is for arrays that are made in one place."""
    found: list[Callable[..., object]] = []

    def first(*arguments: object) -> object:
        result = compiled(*arguments)
        signature = tuple(map(typeof, arguments))
        found.append(cast(Any, compiled).overloads[signature].entry_point)
        return result

    def call(*arguments: object) -> object:
        return found[0](*arguments) if found else first(*arguments)

    return cast(F, call if hasattr(compiled, "overloads") else compiled)


def part(function: F) -> F:
    """A part of kernels, copied into each that calls it. Python cannot call it: what that needs takes a third of the
    time to compile, and the caches of the kernels hold it."""
    return _part(function, forceinline=True)


def rare(function: F) -> F:
    """A part for what happens seldom: it is called, not copied into each kernel that calls it."""
    return _part(function, forceinline=False)


def _part(function: F, forceinline: bool) -> F:
    compiled = _compiled(function, whole=False, forceinline=forceinline, no_cpython_wrapper=True)
    if hasattr(compiled, "get_call_template"):
        compiled.get_call_template = partial(_call_template, compiled.get_call_template)
    return cast(F, compiled)


def _compiled(function: Callable[..., object], whole: bool, **options: bool) -> Any:
    compiled = njit(**_OPTIONS, **options)(function)
    if hasattr(compiled, "compile"):
        compiled.compile = partial(_compile, compiled.compile, whole)
    return compiled


def _compile(compile: Callable[..., object], whole: bool, signature: object) -> object:
    """Compile with indices of arrays as they are, and not as those that may be negative.

    What is no `whole` kernel is left as it is: as a part of one it is optimised and becomes machine code.
    """
    with global_compiler_lock, _instead(_OF_KERNELS if whole else _OF_PARTS):
        return compile(signature)


@contextmanager
def _instead(functions: Mapping[tuple[Any, str], Any]) -> Iterator[None]:
    """While this is open, others stand for these functions of numba's."""
    before = {(owner, name): getattr(owner, name) for owner, name in functions}
    try:
        for (owner, name), function in functions.items():
            setattr(owner, name, function)
        yield
    finally:
        for (owner, name), function in before.items():
            setattr(owner, name, function)


def _plain_index(context: Any, builder: Any, kind: Any, index: Any, _size: Any) -> Any:
    return context.cast(builder, index, kind, types.intp if kind.signed else types.uintp)


def _leave(_library: Any) -> None:
    """Instead of optimising a library."""


def _close(library: Any) -> None:
    """Instead of making machine code of a library: what links it takes it as it is."""
    library._finalized = True  # noqa: SLF001  # what numba does at the end of that


def _forget(_codegen: Any, _name: str, _environment: Any) -> None:
    """Instead of writing into memory of machine code."""


_OPTIMISE, _FINISH = (CPUCodeLibrary, "_optimize_final_module"), (CPUCodeLibrary, "_finalize_final_module")
_PLACE, _INDEX = (JITCPUCodegen, "set_env"), (arrayobj, "fix_integer_index")
_OF_KERNELS = {(owner, name): getattr(owner, name) for owner, name in (_OPTIMISE, _FINISH, _PLACE)}
_OF_KERNELS[_INDEX] = _plain_index
_OF_PARTS = {_OPTIMISE: _leave, _FINISH: _close, _PLACE: _forget, _INDEX: _plain_index}
"""Functions of numba's that others stand for while kernels, and parts of them, are compiled."""


def _call_template(call_template: Any, arguments: Any, named: Any) -> Any:
    """A constant as argument is a number as any other; numba would compile the part once for each of them."""
    return call_template([types.unliteral(argument) for argument in arguments], named)


def cache_folder(compiled: Callable[..., object]) -> Path | None:
    """Where a kernel is cached on this machine; None if nowhere."""
    path = cast(Any, compiled).stats.cache_path
    return Path(path) if path else None


@cache
def _warn(reason: str) -> None:
    """Say it once a process; the filter of `warnings` forgets while numba compiles."""
    warnings.warn(
        f"kernels are compiled anew at every start, some seconds: {reason}; set NUMBA_CACHE_DIR to a folder that can "
        "be written",
        stacklevel=2,
    )


def prefetch(array: Any, place: Any) -> None:
    """Have the cache line of byte `place` of a uint8[n] ready for writing soon; in plain Python nothing."""


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_context: Any, array: Any, _place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]], source_etype=ir.IntType(8))
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, word, word, word])
        call = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(call, [address, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@overload(prefetch, jit_options=_INTRINSIC)  # type: ignore[untyped-decorator]
def _compiled_prefetch(array: Any, place: Any) -> Any:
    del array, place

    def hint(array: Any, place: Any) -> None:
        _prefetch(array, place)

    return hint


def load64(array: Any, place: Any) -> Any:
    """The 8 bytes of a uint8[n] from `place` on as a number, the first the lowest; the caller knows they are there."""
    return np.uint64(int.from_bytes(array[place : place + 8].tobytes(), "little"))


@intrinsic  # type: ignore[untyped-decorator]
def _load64(_context: Any, array: Any, _place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]], source_etype=ir.IntType(8))
        return builder.load(address, align=1, typ=ir.IntType(64))

    return types.uint64(array, types.intp), generate


@overload(load64, jit_options=_INTRINSIC)  # type: ignore[untyped-decorator]
def _compiled_load64(array: Any, place: Any) -> Any:
    del array, place

    def load(array: Any, place: Any) -> Any:
        return _load64(array, place)

    return load


def store64(array: Any, place: Any, word: Any) -> None:
    """Write a number as 8 bytes of a uint8[n] from `place` on, the lowest first; the caller knows there is room."""
    array[place : place + 8] = np.frombuffer(int(word).to_bytes(8, "little"), np.uint8)


@intrinsic  # type: ignore[untyped-decorator]
def _store64(_context: Any, array: Any, _place: Any, _word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]], source_etype=ir.IntType(8))
        builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@overload(store64, jit_options=_INTRINSIC)  # type: ignore[untyped-decorator]
def _compiled_store64(array: Any, place: Any, word: Any) -> Any:
    del array, place, word

    def store(array: Any, place: Any, word: Any) -> None:
        _store64(array, place, word)

    return store


def trailing_zeros(word: Any) -> Any:
    """How many of a uint64's lowest bits are 0; `word` is not 0."""
    return np.uint64((int(word) & -int(word)).bit_length() - 1)


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_context: Any, word: Any) -> Any:
    del word

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@overload(trailing_zeros, jit_options=_INTRINSIC)  # type: ignore[untyped-decorator]
def _compiled_trailing_zeros(word: Any) -> Any:
    del word

    def count(word: Any) -> Any:
        return _trailing_zeros(word)

    return count
