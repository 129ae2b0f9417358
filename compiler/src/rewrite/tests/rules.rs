//! Every rule fires where it should, stays away where it must, and says the truth.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Id, Language, Pattern, RecExpr, Symbol};
use rhumb_ir::{Unary, Verified, interpret_value};

use super::cases::CASES;
use super::notation::graph;
use rhumb_random::Rng;

use super::values::{Values, bindings, difference, lengths, run};
use crate::rewrite::apply::compile_rule;
use crate::rewrite::constants::fold;
use crate::rewrite::facts::{EGraph, Facts};
use crate::rewrite::language::{Node, Number};
use crate::rewrite::rebuild::rebuild;
use crate::rewrite::{FloatClass, Rule, add_graph, rules};

/// The graphs that come of applying a rule once, anywhere in `original`.
fn apply(rule: &Rule, allowed: FloatClass, original: &Verified) -> Vec<Verified> {
    let Some(rewrite) = compile_rule(rule, allowed) else { return Vec::new() };
    let rhs: Pattern<Node> = rule.rhs.parse().expect("right-hand sides parse");
    let mut egraph = EGraph::new(Facts::new(original));
    let roots = add_graph(&mut egraph, original).expect("test graphs are lowered");
    egraph.rebuild();
    let mut results = Vec::new();
    for found in rewrite.search(&egraph) {
        for subst in &found.substs {
            let mut trial = egraph.clone();
            let name = Symbol::from(rule.name);
            if rewrite.applier.apply_one(&mut trial, found.eclass, subst, None, name).is_empty() {
                continue;
            }
            // No class of the graph as written has two forms, so the right-hand side stands in for its class everywhere.
            let mut with_rhs = egraph.clone();
            let replacement = with_rhs.add_instantiation(&rhs.ast, subst);
            with_rhs.rebuild();
            let terms: Vec<RecExpr<Node>> =
                roots.iter().map(|root| term(&with_rhs, *root, found.eclass, replacement)).collect();
            results.push(rebuild(original, &terms).unwrap_or_else(|error| panic!("{}: {error}", rule.name)).graph);
        }
    }
    results
}

fn term(egraph: &EGraph, root: Id, from: Id, to: Id) -> RecExpr<Node> {
    fn visit(egraph: &EGraph, class: Id, swap: (Id, Id), done: &mut BTreeMap<Id, Id>, expr: &mut RecExpr<Node>) -> Id {
        let class = egraph.find(if class == swap.0 { swap.1 } else { class });
        if let Some(id) = done.get(&class) {
            return *id;
        }
        let node = egraph[class].nodes[0].clone();
        let node = node.map_children(|child| visit(egraph, egraph.find(child), swap, done, expr));
        let id = expr.add(node);
        done.insert(class, id);
        id
    }
    let mut expr = RecExpr::default();
    let root = visit(egraph, egraph.find(root), (egraph.find(from), egraph.find(to)), &mut BTreeMap::new(), &mut expr);
    // The root of a term is its last node.
    if usize::from(root) + 1 != expr.len() {
        let last = expr[root].clone();
        expr.add(last);
    }
    expr
}

#[test]
fn every_rule_compiles_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for rule in rules() {
        assert!(names.insert(rule.name), "two rules are named {}", rule.name);
        assert!(compile_rule(rule, FloatClass::FiniteOnly).is_some(), "{} does not compile", rule.name);
        assert!(rule.downgrades.iter().all(|(class, _)| *class < rule.class), "{} is not milder", rule.name);
    }
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let tabled: BTreeSet<&str> = rules().iter().map(|rule| rule.name).collect();
    let tested: BTreeSet<&str> = CASES.iter().map(|case| case.rule).collect();
    assert_eq!(tabled, tested);
}

fn rule_named(name: &str) -> &'static Rule {
    rules().iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("no rule {name}"))
}

#[test]
fn every_rule_fires() {
    for case in CASES {
        let applied = apply(rule_named(case.rule), FloatClass::FiniteOnly, &graph(case.fires));
        assert!(!applied.is_empty(), "{} does not fire on {}", case.rule, case.fires);
    }
}

#[test]
fn every_rule_stays_away_where_it_must() {
    for case in CASES {
        let applied = apply(rule_named(case.rule), FloatClass::FiniteOnly, &graph(case.stays));
        let shown: Vec<String> = applied.iter().map(ToString::to_string).collect();
        assert!(applied.is_empty(), "{} fires on {}:\n{}", case.rule, case.stays, shown.join("\n"));
    }
}

#[test]
fn terms_leave_a_softmax_only_where_they_are_the_same_for_all_keys_and_no_sink_is_beside() {
    let finite = "(f32 (iota q))";
    for (rule, text) in [
        ("softmax-shift", "(softmax (+ x:hqk (f32 (iota k))) k none e)".to_owned()),
        ("softmax-shift", format!("(softmax (+ x:hqk {finite}) k s:h e)")),
        ("softmax-shift-mask", format!("(softmax (select m:qk (+ x:hqk {finite}) -inf) k s:h two)")),
        ("lse-shift", format!("(logsumexp (+ x:hqk {finite}) k s:h e)")),
        ("lse-shift-mask", "(logsumexp (select m:qk (+ x:hqk (f32 (iota k))) -inf) k none two)".to_owned()),
    ] {
        assert!(apply(rule_named(rule), FloatClass::FiniteOnly, &graph(&text)).is_empty(), "{rule} fires on {text}");
    }
}

#[test]
fn sums_are_multiplied_out_in_scores_and_where_that_hoists_the_products() {
    let applied = |rule: &str, product: &str, around: fn(&str) -> String| {
        let text = format!("(softmax {} k none two)", around(product));
        !apply(rule_named(rule), FloatClass::FiniteOnly, &graph(&text)).is_empty()
    };
    let arounds: [fn(&str) -> String; 6] = [
        str::to_owned,
        |x| format!("(+ z:hqk {x})"),
        |x| format!("(- z:hqk (* (neg {x}) 0.3))"),
        |x| format!("(select m:qk (/ {x} y:h) -inf)"),
        |x| format!("(select m:qk {x} z:qk)"),
        |x| format!("(+ z:hqk (sin {x}))"),
    ];
    for (rule, product, apart) in [
        ("distribute", "(* (+ x:k y:q) c:h)", "(* (+ x:qk y:q) c:h)"),
        ("distribute-sub", "(* (- x:k y:q) c:h)", "(* (- x:qk y:q) c:h)"),
        ("distribute-left", "(* c:h (+ x:k y:q))", "(* c:hk (+ x:hk y:k))"),
        ("distribute-left-sub", "(* c:h (- x:k y:q))", "(* c:hk (- x:hk y:k))"),
    ] {
        let found = arounds.map(|around| applied(rule, product, around));
        assert_eq!(found, [true, true, true, true, false, false], "{rule}");
        assert!(!applied(rule, apart, str::to_owned), "{rule}");
    }
    // A constant goes to the part that all pairs have anywhere.
    for (rule, product, apart) in [
        ("scale-sum", "(* (+ x:qk y:q) 0.5)", "(* (+ x:k y:q) 0.5)"),
        ("scale-difference", "(* (- x:k y:qk) 0.5)", "(* (- x:k y:q) 0.5)"),
    ] {
        for (around, in_score) in arounds.iter().zip([true, true, true, true, false, false]) {
            assert!(applied(rule, product, *around), "{rule}");
            assert_eq!(applied(rule, apart, *around), in_score, "{rule}");
        }
    }
}

#[test]
fn side_conditions_draw_their_lines_where_they_say() {
    for (rule, fires, stays) in [
        // Of equal rank neither leads.
        ("add-commute", "(+ x:q y:hqk)", "(+ x:hq y:hq)"),
        // A scalar that is no constant.
        ("scale-sum", "(* (+ x:qk y:q) 0.5)", "(* (+ x:qk y:q) (f32 (size q)))"),
        // Of the least numbers, `f32` does not hold the reciprocal.
        ("div-constant", "(/ x:q 1e-38)", "(/ x:q 1e-39)"),
        (
            "mask-scale",
            "(* (select m:qk x:qk -inf) (exp (sin (f32 (iota q)))))",
            "(* (select m:qk x:qk -inf) (abs (sin (f32 (iota q)))))",
        ),
    ] {
        let applied = |text: &str| !apply(rule_named(rule), FloatClass::FiniteOnly, &graph(text)).is_empty();
        assert_eq!([applied(fires), applied(stays)], [true, false], "{rule}: {fires}, {stays}");
    }
}

/// Expressions on which a rule is of its milder class.
#[rustfmt::skip]
const MILDER: &[(&str, &str)] = &[
    ("add-left",           "(+ i:hq (+ i2:hq i3:hq))"),
    ("add-sort",           "(+ (+ i:hqk i2:hq) i3:hk)"),
    ("add-hoist",          "(+ (+ i:hqk i2:hk) i3:h)"),
    ("mul-hoist",          "(* (* i:hqk i2:hk) i3:h)"),
    ("mul-sort",           "(* (* i:hqk i2:h) i3:hk)"),
    ("mul-zero",           "(* (tanh (sin (f32 (iota q)))) (* 0.0 (f32 (iota q))))"),
    ("distribute",         "(* (+ i:k i2:q) i3:h)"),
    ("distribute-sub",     "(* (- i:k i2:q) i3:h)"),
    ("distribute-left",    "(* i3:h (+ i:k i2:q))"),
    ("distribute-left-sub", "(* i3:h (- i:k i2:q))"),
    ("dot-scale-first",    "(* (dot x:hqd y:hkd d) 0.5)"),
    ("dot-scale-second",   "(* (dot y:hkd x:hqd d) 0.5)"),
    ("rotate-zero",        "(rotate (sin (f32 (iota d))) (* 0.0 (f32 (iota p))) d p half:0)"),
    ("rotate-scale",       "(* (rotate x:hqd a:qp d p interleaved:1) 0.5)"),
    ("cast-sum",           "(f32 (+ (min (iota k) 99i) (% i:q 7i)))"),
    ("cast-neg",           "(f32 (neg (iota k)))"),
    ("mask-outward",       "(+ (select m:qk x:hqk -inf) (f32 (iota k)))"),
    ("mask-outward-left",  "(+ (f32 (iota k)) (select m:qk x:hqk -inf))"),
    ("isolate-less-subtrahend",            "(< (- (iota q) (iota k)) 4i)"),
    ("isolate-greater-equal-minuend-right", "(>= 4i (- (iota k) (min (iota q) 99i)))"),
    ("mask-factor", "(* (select m:qk x:hqk 0.0) (f32 (iota k)))"),
    ("mask-factor-left", "(* (f32 (iota k)) (select m:qk x:hqk 0.0))"),
    ("mask-truth", "(* (f32 (iota k)) (f32 m:qk))"),
    ("mask-truth-left", "(* (f32 m:qk) (f32 (iota k)))"),
];

fn mildest(rule: &Rule) -> FloatClass {
    rule.downgrades.iter().map(|(class, _)| *class).min().unwrap_or_else(|| panic!("{} has no milder class", rule.name))
}

#[test]
fn milder_classes_hold_where_they_are_proved_and_nowhere_else() {
    for (name, fires) in MILDER {
        let rule = rule_named(name);
        let class = mildest(rule);
        assert!(!apply(rule, class, &graph(fires)).is_empty(), "{name} is not {class} on {fires}");
    }
    for rule in rules().iter().filter(|rule| !rule.downgrades.is_empty() && !rule.name.starts_with("isolate")) {
        assert!(MILDER.iter().any(|(name, _)| *name == rule.name), "{} has no case for its milder class", rule.name);
    }
    // What is not proved needs the full class.
    for (name, stays) in [
        ("add-left", "(+ x:hq (+ y:hq z:hq))"),
        ("distribute", "(softmax (* (+ x:k y:q) 0.5) k none two)"),
        ("dot-scale-first", "(* (dot x:hqd y:hkd d) c:h)"),
        ("cast-sum", "(f32 (+ i:k i2:q))"),
        ("isolate-less-minuend", "(< (- i:k i2:q) 4i)"),
        // One of the two sums may wrap.
        ("isolate-less-minuend", "(< (- (iota k) (iota q)) i2:q)"),
        ("isolate-less-subtrahend", "(< (- (iota q) (iota k)) i2:q)"),
    ] {
        let rule = rule_named(name);
        let milder = mildest(rule);
        assert!(apply(rule, milder, &graph(stays)).is_empty(), "{name} is {milder} on {stays}");
    }
}

#[test]
fn both_sides_of_every_rule_agree() {
    let milder = MILDER.iter().map(|(rule, fires)| (*rule, *fires));
    let mut wrong = Vec::new();
    for (name, fires) in CASES.iter().map(|case| (case.rule, case.fires)).chain(milder) {
        let original = graph(fires);
        for (allowed, values, tolerance) in [
            (FloatClass::Exact, Values::Wild, 0.0),
            (FloatClass::Reassociating, Values::Infinite, 1e-12),
            (FloatClass::FiniteOnly, Values::Tame, 1e-12),
        ] {
            for rewritten in apply(rule_named(name), allowed, &original) {
                let first = (0..40).find_map(|seed| {
                    let mut random = Rng::new(seed);
                    let lengths = lengths(&original, &mut random, 4);
                    let inputs = bindings(&original, &mut random, values, &|axis| lengths[axis.index()]);
                    let (expected, found) = (run(&original, &inputs), run(&rewritten, &inputs));
                    difference(&expected, &found, tolerance)
                        .map(|found| format!("{name} ({allowed}), seed {seed}: {found}\n  {fires}"))
                });
                wrong.extend(first);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn intervals_hold_every_value() {
    for text in CASES.iter().flat_map(|case| [case.fires, case.stays]).chain(MILDER.iter().map(|(_, fires)| *fires)) {
        let graph = graph(text);
        let mut egraph = EGraph::new(Facts::new(&graph));
        let mut ids: Vec<Id> = Vec::new();
        for (value, node) in graph.values().zip(graph.nodes()) {
            let node = Node::of(&node.op, value, |operand| ids[operand.index()], |parameter| egraph.add(parameter));
            ids.push(egraph.add(node.expect("test graphs are lowered")));
        }
        for seed in 0..10 {
            let mut random = Rng::new(seed);
            let lengths = lengths(&graph, &mut random, 3);
            let inputs = bindings(&graph, &mut random, Values::Wild, &|axis| lengths[axis.index()]);
            for value in graph.values() {
                let interval = egraph[ids[value.index()]].data.interval;
                let tensor = interpret_value(&graph, &inputs, value).expect("test graphs can be interpreted");
                for x in tensor.data {
                    let inside = if x.is_nan() { interval.nan } else { interval.lo <= x && x <= interval.hi };
                    assert!(inside, "{text}: value {} is {x}, not in {interval:?}", value.index());
                }
            }
        }
    }
}

#[test]
fn constants_fold_as_the_interpreter_computes() {
    let reals = ["0.0", "-0.75", "2.5", "-inf", "inf", "3.0"];
    let integers = ["0i", "-7i", "3i", "2147483647i", "-2147483648i", "-1i"];
    let booleans = ["true", "false"];
    let mut texts = Vec::new();
    for a in reals {
        texts.extend(Unary::ALL.iter().filter(|op| **op != Unary::Not).map(|op| format!("({} {a})", op.name())));
        texts.push(format!("(i32 {a})"));
        for b in reals {
            let signs = ["+", "-", "*", "/", "%", "min", "max", "pow", "==", "!=", "<", "<=", ">", ">="];
            texts.extend(signs.map(|sign| format!("({sign} {a} {b})")));
        }
    }
    for a in integers {
        texts.extend([format!("(neg {a})"), format!("(abs {a})"), format!("(f32 {a})")]);
        for b in integers {
            let signs = ["+", "-", "*", "/", "%", "min", "max", "==", "!=", "<", "<=", ">", ">="];
            texts.extend(signs.map(|sign| format!("({sign} {a} {b})")));
        }
    }
    for a in booleans {
        texts.extend([format!("(not {a})"), format!("(f32 {a})"), format!("(i32 {a})")]);
        texts.extend(booleans.map(|b| format!("(and {a} {b})")));
        texts.extend(booleans.map(|b| format!("(or {a} {b})")));
        texts.push(format!("(select {a} 1.0 2.0)"));
    }
    texts.extend(["(size h)".to_owned(), "(size g)".to_owned()]);
    for text in texts {
        let original = graph(&text);
        let mut egraph = EGraph::new(Facts::new(&original));
        let roots = add_graph(&mut egraph, &original).expect("test graphs are lowered");
        let node = egraph[roots[0]].nodes[0].clone();
        let folded = fold(&original, &node, |id| egraph[id].data.constant, |id| egraph[id].data.kind);
        let folded = folded.unwrap_or_else(|| panic!("{text} does not fold")).scalar().as_f64();
        let mut random = Rng::new(1);
        let lengths = lengths(&original, &mut random, 2);
        let inputs = bindings(&original, &mut random, Values::Tame, &|axis| lengths[axis.index()]);
        let expected = run(&original, &inputs)["result"].data[0];
        let same = folded == expected || (folded.is_nan() && expected.is_nan());
        assert!(same, "{text} folds to {folded}, the interpreter gives {expected}");
    }
    // Dynamic lengths are no constants.
    let original = graph("(size q)");
    let mut egraph = EGraph::new(Facts::new(&original));
    let roots = add_graph(&mut egraph, &original).expect("test graphs are lowered");
    assert_eq!(egraph[roots[0]].data.constant, None::<Number>);
}
