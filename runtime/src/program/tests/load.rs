//! Every function is there, or the plan is not loaded.

use insta::assert_snapshot;
use rhumb_compiler::Compiled;
use rhumb_compiler::codegen::Role;
use rhumb_plugins::{Attention, Batch};

use super::*;

fn compiled(attention: &Attention, target: &Target) -> Compiled {
    let graph = attention.build().expect("a graph");
    compile(&graph, &Registry::standard(), target, &Options::default(), &mut |_, _| ()).expect("compiles")
}

fn load(compiled: &Compiled) -> Result<Program, LoadError> {
    Program::load(compiled.plan.clone(), &compiled.code, compiled.choice.target(), None)
}

/// Plans with and without each kind of function.
fn attentions() -> [Attention; 4] {
    let of = || Attention::heads(2).head_dim(8);
    [
        of(),
        of().scheme(Rope::new()).scheme(Causal).lse(),
        of().scheme(Alibi::new()).scheme(Causal),
        of().bias(Batch::Each).scheme(Alibi::new().symmetric()),
    ]
}

#[test]
fn a_plan_is_loaded_with_all_its_functions_and_no_others() {
    let mut roles = std::collections::BTreeSet::new();
    for (attention, target) in attentions()
        .iter()
        .flat_map(|of| Target::host().expect("a target").candidates().into_iter().map(move |t| (of, t)))
    {
        let whole = compiled(attention, &target);
        load(&whole).expect("loads");
        for index in 0..whole.code.functions.len() {
            let mut code = whole.clone();
            let function = code.code.functions.remove(index);
            if !matches!(function.role, Role::Table(_) | Role::Full(1..) | Role::Partial(1..)) {
                roles.insert(function.role.name());
            }
            match load(&code) {
                Err(LoadError::Missing { role }) => assert_eq!(role, function.role, "{target}"),
                other => panic!("{target}: {other:?} without {:?}", function.role),
            }
            code.code.functions.extend([function.clone(), function.clone()]);
            match load(&code) {
                Err(LoadError::Unexpected { role }) => assert_eq!(role, function.role, "{target}"),
                other => panic!("{target}: {other:?} with {:?} twice", function.role),
            }
        }
    }
    let all = ["begin", "end", "full0", "guarded", "partial0", "reference", "scan", "squares"];
    assert_eq!(roles.into_iter().collect::<Vec<_>>(), all.map(|name| format!("tile_{name}")));
}

#[test]
fn errors_name_the_function_or_the_machine() {
    let target = Target::host().expect("a target");
    let mut code = compiled(&attentions()[1], &target);
    let scan = code.code.functions.iter().position(|function| function.role.name() == "tile_scan").expect("a scan");
    let function = code.code.functions.remove(scan);
    assert_snapshot!(load(&code).expect_err("refused"), @"the machine code lacks the function `tile_scan`, which its plan calls; that is a bug of the compiler: please report the graph");
    code.code.functions.extend([function.clone(), function]);
    assert_snapshot!(load(&code).expect_err("refused"), @"the machine code has a function `tile_scan` too many for its plan; that is a bug of the compiler: please report the graph");
    let arm = Target::named("aarch64-unknown-linux-gnu").expect("a target");
    assert_snapshot!(load(&compiled(&attentions()[0], &arm)).expect_err("refused"), @"the machine code is for aarch64-unknown-linux-gnu, which is not this machine; compile for `Target::host` or one of its candidates");
}
