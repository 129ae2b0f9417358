"""ONNX Runtime: the operators of its CPU provider that compute attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from compare.serve import Prepared

# The first with `Attention`, and the format that goes with it.
OPSET, IR_VERSION = 23, 10


class _Graph:
    """A graph in the making: its inputs are added with their values."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, np.ndarray] = {}

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

    def hello(self, threads: int) -> dict[str, Any]:
        self.threads = threads
        return {"versions": {"onnxruntime": ort.__version__, "onnx": onnx.__version__}}

    def load(self, spec: dict[str, Any], folder: Path) -> None:
        def read(name: str, *shape: int) -> np.ndarray:
            return np.fromfile(folder / f"{name}.f32", dtype="<f4").reshape(shape)

        self.spec = spec
        batch, tokens, dim = spec["batch"], spec["tokens"], spec["head_dim"]
        heads = {"q": spec["heads"], "k": spec["kv_heads"], "v": spec["kv_heads"]}
        self.tensors = {name: read(name, batch, count, tokens, dim) for name, count in heads.items()}
        if spec["scheme"] == "rope":
            self.tensors |= {name: read(name, tokens, dim // 2) for name in ("cos", "sin")}

    def prepare(self, way: str) -> Prepared:
        make = {
            "mha": self._mha,
            "attention": self._attention,
            "attention-mask": self._attention_mask,
            "gqa": self._gqa,
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
        out = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.float32))
        binding.bind_ortvalue_output("out", out)

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
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_graph(graph.nodes, "attention", inputs, [out])
        model = helper.make_model(made, opset_imports=imports, ir_version=IR_VERSION)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def _packed(self, name: str) -> np.ndarray:
        """`[batch, token, head * element]`."""
        batch, heads, tokens, dim = self.tensors[name].shape
        return self.tensors[name].transpose(0, 2, 1, 3).reshape(batch, tokens, heads * dim)

    def _turned(self, graph: _Graph, name: str, values: np.ndarray, **attributes: Any) -> str:
        """An input, with a rotation in front where the case has RoPE."""
        given = graph.input(name, values)
        if self.spec["scheme"] != "rope":
            return given
        tables = [graph.input(table, self.tensors[table]) for table in ("cos", "sin")]
        at = graph.input(
            "at", np.tile(np.arange(self.spec["tokens"], dtype=np.int64), (self.spec["batch"], 1))
        )
        return graph.node("RotaryEmbedding", [given, *tables, at], [f"{name}_turned"], **attributes)

    def _mask(self) -> np.ndarray:
        """`[1, 1 or head, query, key]`: ALiBi's penalty, and minus infinity on keys ahead."""
        at = np.arange(self.spec["tokens"], dtype=np.float32)
        distance = at[None, :] - at[:, None]
        mask = np.zeros((1, 1, 1, 1), dtype=np.float32)
        if self.spec["scheme"] == "alibi":
            heads = self.spec["heads"]
            if heads & (heads - 1):
                raise ValueError(f"slopes of {heads} heads: only powers of two are known here")
            slopes = np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32)
            mask = slopes[None, :, None, None]
        return np.where(distance > 0, np.float32("-inf"), mask * distance).astype(np.float32)

    def _mha(self, graph: _Graph) -> tuple[bool, str]:
        names = [
            self._turned(graph, "q", self._packed("q"), num_heads=self.spec["heads"]),
            self._turned(graph, "k", self._packed("k"), num_heads=self.spec["kv_heads"]),
            graph.input("v", self._packed("v")),
        ]
        attributes: dict[str, Any] = {"num_heads": self.spec["heads"]}
        if self.spec["scheme"] == "alibi":
            names += ["", "", graph.input("bias", self._mask())]
        elif self.spec["causal"]:
            attributes["unidirectional"] = 1
        graph.node("MultiHeadAttention", names, ["out"], "com.microsoft", **attributes)
        return True, "com.microsoft.MultiHeadAttention"

    def _attention(self, graph: _Graph) -> tuple[bool, str]:
        names = [self._turned(graph, "q", self.tensors["q"]), self._turned(graph, "k", self.tensors["k"])]
        names.append(graph.input("v", self.tensors["v"]))
        attributes: dict[str, Any] = {"is_causal": int(self.spec["causal"])}
        if self.spec["softcap"] is not None:
            attributes["softcap"] = self.spec["softcap"]
        graph.node("Attention", names, ["out"], **attributes)
        return False, f"Attention (opset {OPSET})"

    def _attention_mask(self, graph: _Graph) -> tuple[bool, str]:
        names = [self._turned(graph, "q", self.tensors["q"]), self._turned(graph, "k", self.tensors["k"])]
        names += [graph.input("v", self.tensors["v"]), graph.input("mask", self._mask())]
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
