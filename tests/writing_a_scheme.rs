//! The programs of `docs/writing-a-scheme.md`: every snippet of the page is a piece of this file, and runs.

use std::error::Error;
use std::fs;
use std::path::Path;

use rhumb::compiler::{Options, compile};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use rhumb::testing::SchemeTest;

#[test]
fn a_formula_as_a_closure() -> Result<(), Box<dyn Error>> {
    let attention = Attention::heads(4)
        .head_dim(64)
        .score_with(|cx, score| {
            let width = cx.table(&[cx.h], [2.0, 4.0, 8.0, 16.0]);
            let distance = (cx.q_pos() - cx.k_pos()) / width;
            score - 0.5 * distance * distance
        })
        .scheme(Causal);
    let graph = attention.build()?;

    let engine = Engine::host()?;
    let (kernel, reference) = (engine.compile(&graph)?, engine.reference(&graph)?);

    let shape = [1, 4, 20, 64];
    let rows: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 0.37).sin()).collect();
    let rows = TensorView::from_slice(&rows, &shape)?;
    let (mut found, mut expected) = (vec![0.0f32; rows.len()], vec![0.0f32; rows.len()]);
    for (call, out) in [(kernel.call(), &mut found), (reference.call(), &mut expected)] {
        let out = TensorViewMut::from_slice(out, &shape)?;
        call.input("q", rows).input("k", rows).input("v", rows).output("out", out).run()?;
    }
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    Ok(())
}

#[test]
fn a_rotation_as_closures() -> Result<(), Box<dyn Error>> {
    let turns: Vec<f64> = (0..32).map(|pair| 0.8f64.powi(pair)).collect();
    let (of_queries, of_keys) = (turns.clone(), turns);
    let graph = Attention::heads(4)
        .head_dim(64)
        .query_with(move |cx, query| {
            let pair = cx.axis("pair", 32);
            query.rotate(cx.q_pos() * cx.table(&[pair], of_queries.clone()), cx.d, pair, Pairing::Half, 0)
        })
        .key_with(move |cx, key| {
            let pair = cx.axis("pair", 32);
            key.rotate(cx.k_pos() * cx.table(&[pair], of_keys.clone()), cx.d, pair, Pairing::Half, 0)
        })
        .mask_with(|cx| cx.k_index().le(cx.q_index()))
        .build()?;
    Engine::host()?.compile(&graph)?;
    Ok(())
}

#[test]
fn a_text_file() -> Result<(), Box<dyn Error>> {
    let page = include_str!("../docs/writing-a-scheme.md");
    let text = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a scheme in text");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("window.scheme");
    fs::write(&file, text)?;
    let registry = Registry::standard().load(&file)?;
    let attrs = [("widths".to_owned(), vec![2.0, 4.0, 8.0, 16.0].into())].into();
    let window = registry.make("text_window", &attrs)?;
    let graph = Attention::heads(4).head_dim(64).scheme(window).scheme(Causal).build()?;
    Engine::host()?.compile(&graph)?;

    let widths = [2.0, 4.0, 8.0, 16.0];
    let make = || registry.make("text_window", &attrs).expect("a scheme");
    SchemeTest::new(&registry, make)
        .agrees_with(|p| p.score() - ((p.q_pos - p.k_pos) / widths[p.head as usize]).powi(2) / 2.0)
        .shift_invariant()
        .run()?;
    // Three heads have no fourth width.
    let few = Attention::heads(3).head_dim(64).scheme(make()).build();
    assert!(few.is_err_and(|error| error.to_string().contains("one width for each head")));
    Ok(())
}

scheme! {
    /// A key loses score with the square of its distance.
    #[derive(Clone, Debug)]
    pub struct Window: "window" at Score = "score - ((p_q - p_k) / w_h)^2 / 2" {
        /// w: how wide the window of each head is, in positions.
        #[range(AttrRange::above(0.0))]
        widths: Vec<f64>,
    }
}

impl PositionScheme for Window {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let (found, heads) = (self.widths.len(), cx.heads()?);
        if found == heads as usize {
            return Ok(());
        }
        Err(SchemeError::range("widths", format!("{found} numbers"), format!("{heads}, one per head")))
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let distance = (cx.q_pos() - cx.k_pos()) / cx.per_head(self.widths.clone())?;
        Ok(score - 0.5 * distance * distance)
    }
}

#[test]
fn a_scheme_and_what_becomes_of_it() -> Result<(), Box<dyn Error>> {
    let window = Window { widths: vec![2.0, 4.0, 8.0, 16.0] };
    let graph =
        Attention::heads(4).head_dim(64).kv_heads(2).scheme(Rope::new()).scheme(window).scheme(Causal).build()?;

    let mut stages = Vec::new();
    let options = Options::default();
    compile(&graph, &Registry::empty(), &Target::host()?, &options, &mut |stage, text| stages.push((stage, text())))?;
    for (stage, text) in &stages {
        println!("{}: {}\n{text}", stage.name(), stage.description());
    }
    assert!(stages[0].1.contains("window") && !stages[1].1.contains("window"));

    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("window.rhumb");
    std::fs::write(&path, lower(&graph, &Registry::empty())?.to_string())?;
    assert_eq!(Graph::parse(&fs::read_to_string(&path)?)?, lower(&graph, &Registry::empty())?);

    let registry = Registry::standard().with(Entry::of::<Window>())?;
    let engine = Engine::host()?;
    let kernel = engine.compile(&graph)?;

    let engine = Engine::builder().registry(registry).build()?;
    let read = Graph::parse(&graph.to_string())?;
    let again = engine.compile(&read)?;
    assert_eq!(again.plan().to_string(), kernel.plan().to_string());
    Ok(())
}

#[test]
fn a_scheme_is_tested() -> Result<(), Box<dyn Error>> {
    let registry = Registry::standard().with(Entry::of::<Window>())?;
    let widths = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    SchemeTest::new(&registry, || Window { widths: widths.to_vec() })
        .agrees_with(|p| p.score() - ((p.q_pos - p.k_pos) / widths[p.head as usize]).powi(2) / 2.0)
        .shift_invariant()
        .symmetric()
        .decays()
        .parameter_free()
        .run()?;
    Ok(())
}

/// What the page shows of a mistake: the half is forgotten.
#[test]
fn a_mistake_is_found() -> Result<(), Box<dyn Error>> {
    let widths = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    let test = SchemeTest::new(None, || Window { widths: widths.to_vec() });
    let test = test.agrees_with(|p| p.score() - ((p.q_pos - p.k_pos) / widths[p.head as usize]).powi(2));
    let said = test.run().expect_err("it is another formula").to_string();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/writing-a-scheme.md"))?;
    assert!(page.contains(&said), "the page does not show\n{said}");
    Ok(())
}

/// The lines of a text without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn every_snippet_of_the_page_is_a_piece_of_this_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file");
    let (page, source) = (read("docs/writing-a-scheme.md"), read("tests/writing_a_scheme.rs"));
    let source = lines(&source);
    let snippets: Vec<&str> =
        page.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(snippets.len() >= 8, "the page has {} snippets", snippets.len());
    for snippet in snippets {
        let wanted = lines(snippet);
        assert!(source.windows(wanted.len()).any(|lines| lines == wanted), "no test has this snippet:\n{snippet}");
    }
}
