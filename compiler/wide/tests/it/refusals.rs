//! What is outside the subset is refused by name.

use crate::jit::parse;
use clif_wide::{Features, Reason, compile};
use cranelift_codegen::ir::Opcode;

#[track_caller]
fn refused(body: &str, features: Features) -> (Option<Opcode>, Reason, String) {
    let func = parse(body);
    let error = compile(&func, features).expect_err("it should be refused");
    (error.op, error.reason.clone(), error.to_string())
}

#[test]
fn names_the_instruction() {
    let text = "function %f(i64, i64) -> i64 system_v {\nblock0(v0: i64, v1: i64):\n    v2 = atomic_rmw.i64 little add v0, v1\n    return v2\n}";
    let (op, reason, message) = refused(text, Features::cross_avx512());
    assert_eq!(op, Some(Opcode::AtomicRmw));
    assert_eq!(reason, Reason::Operation);
    assert!(message.starts_with("`v2 = atomic_rmw.i64"), "{message}");
}

#[test]
fn asks_for_avx512() {
    let text =
        "function %f(i64) system_v {\nblock0(v0: i64):\n    v1 = load.f32x16 v0\n    store v1, v0\n    return\n}";
    assert_eq!(refused(text, Features::cross_avx2()).1, Reason::NeedsAvx512);
    let text = "function %f(i64) system_v {\nblock0(v0: i64):\n    v1 = load.i64x4 v0\n    v2 = imul v1, v1\n    store v2, v0\n    return\n}";
    assert_eq!(refused(text, Features::cross_avx2()).1, Reason::NeedsAvx512);
}

#[test]
fn refuses_types() {
    for ty in ["i128", "f16", "f128", "f32x2", "i8x8", "f32x32"] {
        let text = format!(
            "function %f(i64) system_v {{\nblock0(v0: i64):\n    v1 = load.{ty} v0\n    store v1, v0\n    return\n}}"
        );
        assert_eq!(refused(&text, Features::cross_avx512()).1, Reason::Type, "{ty}");
    }
}

#[test]
fn refuses_conventions_and_signatures() {
    let tail = "function %f(i64) tail {\nblock0(v0: i64):\n    return\n}";
    assert!(matches!(refused(tail, Features::cross_avx2()).1, Reason::CallConv(_)));
    let sret = "function %f(i64 sret) system_v {\nblock0(v0: i64):\n    return\n}";
    assert_eq!(refused(sret, Features::cross_avx2()).1, Reason::Signature);
    let many = "function %f() -> i64, i64, i64 system_v {\nblock0:\n    v0 = iconst.i64 0\n    return v0, v0, v0\n}";
    assert_eq!(refused(many, Features::cross_avx2()).1, Reason::Signature);
}

#[test]
fn refuses_big_endian_memory() {
    let text = "function %f(i64) -> i64 system_v {\nblock0(v0: i64):\n    v1 = load.i64 big v0\n    return v1\n}";
    assert_eq!(refused(text, Features::cross_avx2()).1, Reason::Endianness);
}

#[test]
fn refuses_huge_frames() {
    let text = "function %f() -> i64 system_v {\n    ss0 = explicit_slot 2000000000\nblock0:\n    v0 = stack_addr.i64 ss0\n    return v0\n}";
    assert!(matches!(refused(text, Features::cross_avx2()).1, Reason::Frame(_)));
}

#[test]
fn refuses_what_the_verifier_refuses() {
    let mut func = parse("function %f(i64) -> i64 system_v {\nblock0(v0: i64):\n    return v0\n}");
    func.signature.returns.clear();
    assert!(matches!(compile(&func, Features::cross_avx2()).unwrap_err().reason, Reason::Invalid(_)));
    let empty = cranelift_codegen::ir::Function::new();
    assert!(compile(&empty, Features::cross_avx2()).is_err());
}
