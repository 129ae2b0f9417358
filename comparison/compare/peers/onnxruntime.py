"""ONNX Runtime: the operators of its CPU provider that compute attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from compare.serve import Prepared

# The first with `Attention`, and the format that goes with it.
OPSET, IR_VERSION = 23, 10
# The inputs of `GroupQueryAttention` ahead of the scales of its cache; sinks are the last of them.
_GQA_INPUTS = 12


class _Graph:
    """A graph in the making: its inputs are added with their values."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, np.ndarray] = {}
        # Outputs that are written where an input lies.
        self.in_place: dict[str, str] = {}

    def input(self, name: str, values: np.ndarray) -> str:
        """Adds an input; gives its name."""
        self.inputs[name] = np.ascontiguousarray(values)
        return name

    def node(
        self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> str:
        """Adds a node; gives its first output."""
        self.nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]


class Library:
    """Ways to compute a case, each in the layout that its operator prefers."""

    def __init__(self) -> None:
        self.threads = 1
        self.spec: dict[str, Any] = {}
        self.tensors: dict[str, np.ndarray] = {}
        # Codes and scales of a cache of 8 bits.
        self.quantised: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.elem = np.dtype(np.float32)

    def hello(self, threads: int) -> dict[str, Any]:
        self.threads = threads
        return {"versions": {"onnxruntime": ort.__version__, "onnx": onnx.__version__}}

    def load(self, spec: dict[str, Any], folder: Path) -> None:
        def read(name: str, *shape: int) -> np.ndarray:
            return np.fromfile(folder / f"{name}.f32", dtype="<f4").reshape(shape)

        self.spec = spec
        # Queries of `bf16` it has on GPUs alone; beside caches of 8 bits they are of single precision.
        self.elem = np.dtype(np.float16 if spec["elem"] == "f16" else np.float32)
        batch, tokens, dim = spec["batch"], spec["tokens"], spec["head_dim"]
        self.tensors = {"q": read("q", batch, spec["heads"], spec["queries"], dim)}
        self.tensors |= {name: read(name, batch, spec["kv_heads"], tokens, dim) for name in "kv"}
        if spec["scheme"] == "rope":
            self.tensors |= {name: read(name, tokens, dim // 2) for name in ("cos", "sin")}
        self.tensors = {name: values.astype(self.elem, copy=False) for name, values in self.tensors.items()}
        self.quantised = {}
        if spec["cache"] == "i8":
            for name in "kv":
                codes = np.fromfile(folder / f"{name}_by_channel.i8", dtype="i1")
                scales = read(f"{name}_by_channel", batch, spec["kv_heads"], 1, dim)
                self.quantised[name] = (codes.reshape(self.tensors[name].shape), scales)

    def prepare(self, way: str) -> Prepared:
        make = {
            "mha": self._mha,
            "attention": self._attention,
            "attention-mask": self._attention_mask,
            "gqa": self._gqa,
            "gqa-cache": self._gqa_cache,
            "gqa-cache-i8": self._gqa_cache,
        }
        graph = _Graph()
        packed, detail = make[way](graph)
        shape = self.tensors["q"].shape
        if packed:
            shape = (shape[0], shape[2], shape[1] * shape[3])
        session = self._session(graph, shape)
        # Inputs are bound once and the output is written in place: no copies are charged.
        binding = session.io_binding()
        values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in graph.inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        out = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=self.elem))
        binding.bind_ortvalue_output("out", out)
        for name, given in graph.in_place.items():
            binding.bind_ortvalue_output(name, values[given])

        def output() -> np.ndarray:
            found = out.numpy()
            if packed:
                batch, tokens, _ = found.shape
                found = found.reshape(batch, tokens, self.spec["heads"], -1).transpose(0, 2, 1, 3)
            return found

        return Prepared(lambda: session.run_with_iobinding(binding), output, detail)

    def _session(self, graph: _Graph, shape: tuple[int, ...]) -> ort.InferenceSession:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in graph.inputs.items()
        ]
        outputs = [helper.make_tensor_value_info("out", helper.np_dtype_to_tensor_dtype(self.elem), shape)]
        for name, given in graph.in_place.items():
            of = graph.inputs[given]
            elem = helper.np_dtype_to_tensor_dtype(of.dtype)
            outputs.append(helper.make_tensor_value_info(name, elem, of.shape))
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_graph(graph.nodes, "attention", inputs, outputs)
        model = helper.make_model(made, opset_imports=imports, ir_version=IR_VERSION)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _packed(self, name: str, first: int = 0) -> np.ndarray:
        """`[batch, token, head * element]`, of the tokens from `first` on."""
        values = self.tensors[name][:, :, first:]
        batch, heads, tokens, dim = values.shape
        return values.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * dim)

    def _seen(self, name: str) -> np.ndarray:
        """Keys or values without those ahead of a window."""
        return self.tensors[name][:, :, self.spec["first_key"] :]

    def _start(self) -> int:
        """The token of the first query: queries are the last tokens."""
        return self.spec["tokens"] - self.spec["queries"]

    def _turned(self, graph: _Graph, name: str, values: np.ndarray, **attributes: Any) -> str:
        """An input, with a rotation in front where the case has RoPE."""
        given = graph.input(name, values)
        if self.spec["scheme"] != "rope" or (name == "k" and self.spec["keys_turned"]):
            return given
        tables = [graph.input(table, self.tensors[table]) for table in ("cos", "sin")]
        first = self._start() if name == "q" else 0
        positions = np.arange(first, self.spec["tokens"], dtype=np.int64)
        at = graph.input(f"{name}_at", np.tile(positions, (self.spec["batch"], 1)))
        return graph.node("RotaryEmbedding", [given, *tables, at], [f"{name}_turned"], **attributes)

    def _mask(self) -> np.ndarray:
        """`[1, 1 or head, query, key that is seen]`: ALiBi's penalty, and minus infinity on hidden keys."""
        at = np.arange(self.spec["tokens"], dtype=np.float32)
        distance = at[None, self.spec["first_key"] :] - at[self._start() :, None]
        hidden = distance > 0
        if self.spec["window"] is not None:
            hidden |= distance <= -self.spec["window"]
        mask = np.zeros((1, 1, 1, 1), dtype=np.float32)
        if self.spec["scheme"] == "alibi":
            heads = self.spec["heads"]
            if heads & (heads - 1):
                raise ValueError(f"slopes of {heads} heads: only powers of two are known here")
            slopes = np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32)
            mask = slopes[None, :, None, None]
        return np.where(hidden, np.float32("-inf"), mask * distance).astype(self.elem)

    def _mha(self, graph: _Graph) -> tuple[bool, str]:
        first = self.spec["first_key"]
        names = [
            self._turned(graph, "q", self._packed("q"), num_heads=self.spec["heads"]),
            self._turned(graph, "k", self._packed("k", first), num_heads=self.spec["kv_heads"]),
            graph.input("v", self._packed("v", first)),
        ]
        attributes: dict[str, Any] = {"num_heads": self.spec["heads"]}
        if self.spec["scheme"] == "alibi":
            names += ["", "", graph.input("bias", self._mask())]
        elif self.spec["causal"]:
            attributes["unidirectional"] = 1
        graph.node("MultiHeadAttention", names, ["out"], "com.microsoft", **attributes)
        return True, "com.microsoft.MultiHeadAttention"

    def _attention(self, graph: _Graph) -> tuple[bool, str]:
        names = [self._turned(graph, "q", self.tensors["q"]), self._turned(graph, "k", self._seen("k"))]
        names.append(graph.input("v", self._seen("v")))
        # The flag aligns the first query with the first key; it hides nothing of the only query of a decode.
        causal = self.spec["causal"] and self._start() == 0
        attributes: dict[str, Any] = {"is_causal": int(causal)}
        if self.spec["softcap"] is not None:
            attributes["softcap"] = self.spec["softcap"]
        graph.node("Attention", names, ["out"], **attributes)
        return False, f"Attention (opset {OPSET})"

    def _attention_mask(self, graph: _Graph) -> tuple[bool, str]:
        names = [self._turned(graph, "q", self.tensors["q"]), self._turned(graph, "k", self._seen("k"))]
        names += [graph.input("v", self._seen("v")), graph.input("mask", self._mask())]
        graph.node("Attention", names, ["out"])
        return False, f"Attention (opset {OPSET}) with a mask tensor"

    def _gqa(self, graph: _Graph) -> tuple[bool, str]:
        """Always causal; rotates by itself; tells lengths as tensors."""
        batch, tokens = self.spec["batch"], self.spec["tokens"]
        names = [*(graph.input(name, self._packed(name)) for name in "qkv"), "", ""]
        names.append(graph.input("last", np.full(batch, tokens - 1, dtype=np.int32)))
        names.append(graph.input("total", np.array(tokens, dtype=np.int32)))
        rope = self.spec["scheme"] == "rope"
        names += [graph.input(name, self.tensors[name]) if rope else "" for name in ("cos", "sin")]
        attributes: dict[str, Any] = {"do_rotary": int(rope)}
        if self.spec["scheme"] == "alibi":
            names += ["", graph.input("bias", self._mask())]
        if self.spec["softcap"] is not None:
            attributes["softcap"] = self.spec["softcap"]
        graph.node(
            "GroupQueryAttention",
            names,
            ["out"],
            "com.microsoft",
            num_heads=self.spec["heads"],
            kv_num_heads=self.spec["kv_heads"],
            **attributes,
        )
        return True, "com.microsoft.GroupQueryAttention"

    def _gqa_cache(self, graph: _Graph) -> tuple[bool, str]:
        """The same with a cache of all tokens, which each call writes the keys of its queries into."""
        spec, start = self.spec, self._start()
        names = [self._turned(graph, "q", self._packed("q"), num_heads=spec["heads"])]
        names += [graph.input(name, self._packed(name, start)) for name in "kv"]
        for name in "kv":
            codes = self.quantised[name][0] if self.quantised else self.tensors[name]
            names.append(graph.input(f"past_{name}", codes.copy()))
            graph.in_place[f"present_{name}"] = f"past_{name}"
        names.append(graph.input("last", np.full(spec["batch"], spec["tokens"] - 1, dtype=np.int32)))
        names.append(graph.input("total", np.array(spec["tokens"], dtype=np.int32)))
        if spec["scheme"] == "alibi":
            names += ["", "", "", graph.input("bias", self._mask())]
        attributes: dict[str, Any] = {}
        if spec["softcap"] is not None:
            attributes["softcap"] = spec["softcap"]
        if spec["window"] is not None:
            attributes["local_window_size"] = spec["window"]
        if self.quantised:
            names += [""] * (_GQA_INPUTS - len(names))
            names += [graph.input(f"{name}_scale", self.quantised[name][1]) for name in "kv"]
            attributes |= {f"{name}_quant_type": "PER_CHANNEL" for name in "kv"}
            attributes["kv_cache_bit_width"] = 8
        graph.node(
            "GroupQueryAttention",
            names,
            ["out", *graph.in_place],
            "com.microsoft",
            num_heads=spec["heads"],
            kv_num_heads=spec["kv_heads"],
            **attributes,
        )
        scaled = " of i8, scales by channel" if self.quantised else ""
        return True, f"com.microsoft.GroupQueryAttention with a cache{scaled}"
