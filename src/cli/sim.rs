//! `sim`: seeds on all cores, what they found, and the command that plays each failure again.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;

use crate::node::Mutation;
use crate::sim::{self, Class, Classes, Options, Outcome};

/// What its help says at the end.
pub fn help() -> String {
    format!(
        "There may go wrong: {}.

Each seed is a network and what happens to it; the same seed is the same to the last bit. Of all seeds together it \
prints how often what happened. One that fails says which promise was not kept, and the command that plays it again.

Exit codes: 0 all promises were kept; 1 not so, or of 200 seeds or more none had one of the faults; 2 wrong command line.",
        Classes::ALL.to_string().replace(',', ", ")
    )
}

#[derive(Debug, Args)]
pub struct SimArgs {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    start: u64,
    /// What may go wrong, with commas between: of these each seed draws some. All unless told; none is nothing
    #[arg(long, value_name = "CLASSES", value_parser = classes)]
    classes: Option<Classes>,
    /// Not some but all of them in each seed
    #[arg(long)]
    exactly: bool,
    /// Break this rule on purpose; only in builds with the feature `mutations`
    #[arg(long, value_name = "RULE", value_parser = mutation)]
    mutation: Option<Mutation>,
    /// Tell what each seed is about, and all that happens if it is one
    #[arg(long, short)]
    verbose: bool,
    /// Tell what broke in so many of the seeds that failed; the others are only counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: usize,
}

fn classes(text: &str) -> Result<Classes, String> {
    if text == "none" {
        return Ok(Classes::default());
    }
    let class = |label: &str| {
        Class::from_label(label).ok_or_else(|| format!("no class {label}; there are {}", Classes::ALL))
    };
    text.split(',').map(class).collect()
}

fn mutation(text: &str) -> Result<Mutation, String> {
    let named = |mutation: &Mutation| format!("{mutation:?}").eq_ignore_ascii_case(text);
    Mutation::ALL
        .into_iter()
        .find(named)
        .ok_or_else(|| format!("no such rule; there are {:?}", Mutation::ALL))
}

/// Runs the seeds. 0: all promises were kept; 1: not, or some fault never hit.
pub fn run(args: &SimArgs) -> ExitCode {
    let options = Options {
        classes: args.classes.unwrap_or(Classes::ALL),
        exactly: args.exactly,
        mutation: args.mutation,
        verbose: args.verbose && args.seeds == 1,
    };
    let start = Instant::now();
    let (marks, failed) = run_all(args, options);
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    // That nobody reads it is no failure.
    let mut print = |text: String| drop(writeln!(out, "{text}"));
    for (what, n) in &marks {
        print(format!("{n:>12}  {what}"));
    }
    let never: Vec<&str> = options
        .classes
        .iter()
        .filter(|c| c.mark().is_some_and(|m| !marks.contains_key(m)))
        .map(Class::label)
        .collect();
    let is_void = args.seeds >= 200 && !never.is_empty();
    if is_void {
        print(format!("void: these never hit: {never:?}"));
    }
    print(format!("{} seeds, {} failed, {:.1} a second", args.seeds, failed, args.seeds as f64 / seconds));
    if failed > 0 || is_void { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_all(args: &SimArgs, options: Options) -> (BTreeMap<&'static str, u64>, usize) {
    let next = AtomicU64::new(0);
    let total = Mutex::new((BTreeMap::new(), 0));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= args.seeds {
                return;
            }
            let outcome = sim::run(args.start.wrapping_add(n), &options);
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (what, n) in &outcome.marks {
                *total.0.entry(*what).or_default() += n;
            }
            if !outcome.violations.is_empty() {
                total.1 += 1;
            }
            if args.verbose || (!outcome.violations.is_empty() && total.1 <= args.failures) {
                print(args, &outcome);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn print(args: &SimArgs, outcome: &Outcome) {
    let mut out = std::io::stdout().lock();
    let mut print = |text: &str| drop(writeln!(out, "{text}"));
    outcome.story.iter().for_each(|line| print(line));
    print(&format!("seed {}: {}; hash {:016x}", outcome.seed, outcome.swarm, outcome.hash));
    for violation in &outcome.violations {
        print(&format!("  not kept: {}: {}", violation.promise, violation.text));
    }
    if !outcome.violations.is_empty() {
        let classes = args.classes.map(|c| format!(" --classes {c}")).unwrap_or_default();
        let exactly = if args.exactly { " --exactly" } else { "" };
        let mutation = args.mutation.map(|m| format!(" --mutation {m:?}")).unwrap_or_default();
        print(&format!(
            "  again: activitystreamer sim --seeds 1 --start {}{classes}{exactly}{mutation} --verbose",
            outcome.seed
        ));
    }
}
