//! Which instances a user means: process types, instances, `all`, and patterns over their names.
//!
//! `*` stands for any letters, also none, and `?` for one; a dot is a letter too: `w*` is all of web, `*.1` the
//! first of each. Nothing else has a meaning.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use super::error::{list, nearest, quote, unquoted};
use super::stack::{MOST_INSTANCES, Stack};

/// The most different names that one question may hold: one for each instance that a stack can have.
pub const MOST_NAMES: usize = MOST_INSTANCES as usize;

/// The most different patterns among them. Each is held against every instance; a name is looked up.
pub const MOST_PATTERNS: usize = 100;

/// `names` without repetitions, in their order, if there are not too many.
///
/// # Errors
/// More than [`MOST_NAMES`], or more patterns than [`MOST_PATTERNS`]; what to write instead.
pub fn distinct(mut names: Vec<String>) -> Result<Vec<String>, String> {
    let mut seen = HashSet::with_capacity(names.len().min(MOST_NAMES));
    names.retain(|name| seen.insert(name.clone()));
    let patterns = names.iter().filter(|name| is_pattern(name)).count();
    match names.len() {
        count if count > MOST_NAMES => {
            Err(format!("{count} names are too many (write {MOST_NAMES} or fewer, or patterns such as web*)"))
        }
        _ if patterns > MOST_PATTERNS => {
            Err(format!("{patterns} patterns are too many (write {MOST_PATTERNS} or fewer)"))
        }
        _ => Ok(names),
    }
}

/// The instances that `names` mean, as indices into [`Stack::instances`]: in file order, then by number, each
/// once, and only those for which `present` says that they exist. No names mean all.
///
/// # Errors
/// The first name that means no instance. `all` always means what there is, even if that is nothing.
pub fn matching(
    stack: &Stack,
    present: &dyn Fn(usize) -> bool,
    names: &[String],
) -> Result<Vec<usize>, NoSuch> {
    meant(stack, present, names).map(|meant| meant.places)
}

/// What several names mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// All of them together, as [`matching`] has it.
    pub places: Vec<usize>,
    /// Each name by itself; where no name was given, all instances once.
    pub each: Vec<Vec<usize>>,
}

/// As [`matching`], and which of the instances each name means.
///
/// # Errors
/// As [`matching`].
pub fn meant(stack: &Stack, present: &dyn Fn(usize) -> bool, names: &[String]) -> Result<Meant, NoSuch> {
    let here: Vec<usize> = in_order(stack).into_iter().filter(|&place| present(place)).collect();
    if names.is_empty() {
        return Ok(Meant { each: vec![here.clone()], places: here });
    }
    let index = Index::new(stack, &here);
    let (mut chosen, mut each, mut seen) = (BTreeSet::new(), Vec::new(), HashSet::new());
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        let ranks = index.ranks(name);
        if ranks.is_empty() && name != ALL {
            return Err(NoSuch::new(name, stack, &here));
        }
        each.push(ranks.iter().map(|&rank| here[rank]).collect());
        chosen.extend(ranks);
    }
    Ok(Meant { places: chosen.into_iter().map(|rank| here[rank]).collect(), each })
}

/// The name of every instance.
pub const ALL: &str = "all";

/// Instances by their names, so that a name costs one look, however many there are.
struct Index<'a> {
    names: Vec<&'a str>,
    instances: HashMap<&'a str, usize>,
    processes: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(stack: &'a Stack, here: &[usize]) -> Index<'a> {
        let names: Vec<&str> = here.iter().map(|&place| stack.instances[place].name.as_str()).collect();
        let mut processes: HashMap<&str, Vec<usize>> = HashMap::new();
        for (rank, name) in names.iter().enumerate() {
            if let Some((process, _)) = name.rsplit_once('.') {
                processes.entry(process).or_default().push(rank);
            }
        }
        let instances = names.iter().enumerate().map(|(rank, name)| (*name, rank)).collect();
        Index { names, instances, processes }
    }

    /// Where the instances are that a name means, in order.
    fn ranks(&self, name: &str) -> Vec<usize> {
        if name == ALL {
            return (0..self.names.len()).collect();
        }
        if is_pattern(name) {
            let pattern = Pattern::new(name);
            return (0..self.names.len()).filter(|&rank| pattern.means(self.names[rank])).collect();
        }
        let process = self.processes.get(name).map(Vec::as_slice).unwrap_or_default();
        self.instances.get(name).into_iter().chain(process).copied().collect()
    }
}

/// Names that stay names: they mean instances of whatever stack, also those that come later.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// No name was given.
    open: bool,
    all: bool,
    exact: HashSet<String>,
    patterns: Vec<Pattern>,
}

impl Selection {
    /// What these names mean; none mean everything.
    pub fn new(names: &[String]) -> Selection {
        let (patterns, exact): (Vec<&String>, _) = names.iter().partition(|name| is_pattern(name));
        Selection {
            open: names.is_empty(),
            all: names.iter().any(|name| name == ALL),
            exact: exact.into_iter().cloned().collect(),
            patterns: patterns.into_iter().map(|name| Pattern::new(name)).collect(),
        }
    }

    /// Whether it means everything, what lpm says of the whole stack included.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether this instance is meant. What has no number is no instance, and only meant where everything is.
    pub fn has(&self, instance: &str) -> bool {
        let Some((process, _)) = instance.rsplit_once('.') else { return self.open };
        self.open
            || self.all
            || self.exact.contains(instance)
            || self.exact.contains(process)
            || self.patterns.iter().any(|pattern| pattern.means(instance))
    }
}

/// All places of `stack`, in file order, then by number: a stack that was changed while it runs has them in
/// another order.
pub(super) fn in_order(stack: &Stack) -> Vec<usize> {
    let mut places: Vec<usize> = (0..stack.instances.len()).collect();
    places.sort_by_key(|&place| (stack.instances[place].process, stack.instances[place].number));
    places
}

/// A name with wildcards.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// No two stars in a row.
    letters: Vec<char>,
    /// How many letters a name has at least that it fits.
    least: usize,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        let mut letters: Vec<char> = text.chars().collect();
        letters.dedup_by(|next, before| (*next, *before) == ('*', '*'));
        let least = letters.iter().filter(|&&letter| letter != '*').count();
        Pattern { letters, least }
    }

    /// Whether it fits an instance's name or that of its process type.
    fn means(&self, instance: &str) -> bool {
        let Some((process, _)) = instance.rsplit_once('.') else { return false };
        self.fits(instance) || self.fits(process)
    }

    /// Whether it fits the whole of `name`, which is ASCII. Costs at most the square of the name's length, however long
    /// the pattern is.
    pub(super) fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (&self.letters, name.as_bytes());
        if self.least > name.len() {
            return false;
        }
        let (mut p, mut n) = (0, 0);
        // Where the last star stood, and how much of the name it had taken: the only place to go back to.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == '?' || c == char::from(name[n]) => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        (p, n) = (at + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == '*')
    }
}

/// Whether `name` is written with wildcards.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// A name that means no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuch {
    /// As it was written.
    pub name: String,
    /// What can be named: process types in file order, those that are off included, then the instances.
    pub known: Vec<String>,
    /// Which of them was probably meant.
    pub nearest: Option<String>,
}

impl NoSuch {
    fn new(name: &str, stack: &Stack, here: &[usize]) -> Self {
        let types = stack.processes.iter().filter(|process| process.is_in_file());
        let types = types.map(|process| process.name.clone());
        let known: Vec<String> =
            types.chain(here.iter().map(|&place| stack.instances[place].name.clone())).collect();
        let means_something = is_pattern(name) || stack.processes.iter().any(|p| is_of(name, &p.name));
        let nearest = match means_something {
            true => None,
            false => nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        };
        Self { name: name.to_owned(), known, nearest }
    }
}

/// Whether `name` is `process` or, with whatever number, an instance of it.
fn is_of(name: &str, process: &str) -> bool {
    name.strip_prefix(process).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for NoSuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quote(&self.name);
        let known = || list(self.known.iter().map(String::as_str));
        let process = self.known.iter().find(|known| !known.contains('.') && is_of(&self.name, known));
        match (&self.nearest, process) {
            _ if self.known.is_empty() => write!(f, "no instance is called {name} (there is none)"),
            _ if is_pattern(&self.name) => write!(f, "no name fits {name} (there are {})", known()),
            (_, Some(process)) => {
                let mut of = self.known.iter().filter(|k| k.contains('.') && is_of(k, process)).peekable();
                match of.peek() {
                    Some(_) => {
                        let known = list(of.map(String::as_str));
                        write!(f, "there is no {} (there are {known})", unquoted(&self.name))
                    }
                    None => write!(f, "there is no instance of {process} (write lpm start {process})"),
                }
            }
            (Some(near), None) => write!(f, "no instance is called {name} (write {near})"),
            (None, None) => write!(f, "no instance is called {name} (there are {})", known()),
        }
    }
}

impl std::error::Error for NoSuch {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{procfile, stack, typed};
    use super::super::{Given, Stack};
    use super::*;

    /// web.1 to web.3, worker.1, worker.2, clock off.
    fn some() -> Stack {
        stack(&typed("web: x\nclock: x\nworker: x", |options| {
            options.give("formation", Given::new("-m", ["web=3,worker=2"]));
        }))
    }

    fn named(stack: &Stack, present: &dyn Fn(usize) -> bool, names: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = matching(stack, present, &names).map_err(|none| none.to_string())?;
        Ok(found.iter().map(|&place| stack.instances[place].name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn names_and_patterns_mean_instances_in_file_order_each_once() {
        for (names, expected) in [
            (&[][..], "web.1 web.2 web.3 worker.1 worker.2"),
            (&["all"], "web.1 web.2 web.3 worker.1 worker.2"),
            (&["worker", "web.2"], "web.2 worker.1 worker.2"),
            (&["web.3", "web", "web.1"], "web.1 web.2 web.3"),
            (&["w*"], "web.1 web.2 web.3 worker.1 worker.2"),
            (&["we*"], "web.1 web.2 web.3"),
            (&["web.*"], "web.1 web.2 web.3"),
            (&["*.1"], "web.1 worker.1"),
            (&["???"], "web.1 web.2 web.3"),
            (&["*r.?"], "worker.1 worker.2"),
            (&["*", "web"], "web.1 web.2 web.3 worker.1 worker.2"),
        ] {
            assert_eq!(named(&some(), &|_| true, names), Ok(expected.to_owned()), "{names:?}");
        }
    }

    #[test]
    fn a_name_means_those_that_come_later_too() {
        let means = |name: &str| {
            let selection = Selection::new(&[name.to_owned()]);
            ["web.1", "web.10", "we.1", "worker.1"].map(|instance| selection.has(instance))
        };
        assert_eq!(means("web"), [true, true, false, false]);
        assert_eq!(means("web.1"), [true, false, false, false]);
        assert_eq!(means("we*"), [true, true, true, false]);
        assert_eq!(means("*.1"), [true, false, true, true]);
        assert_eq!(means("all"), [true; 4]);
        assert_eq!(means(""), [false; 4]);
        // What lpm says of the whole stack belongs to no instance.
        let has_system = |names: &[&str]| Selection::new(&owned(names)).has("system");
        assert!(!has_system(&["*"]) && !has_system(&["all"]) && !has_system(&["system"]));
        assert!(has_system(&[]) && Selection::new(&[]).is_open());
        let several = Selection::new(&owned(&["web.2", "w?rker", "clock"]));
        assert_eq!(
            ["web.1", "web.2", "worker.7", "clock.1"].map(|name| several.has(name)),
            [false, true, true, true]
        );
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_name_is_known_by_what_it_means() {
        let stack = some();
        let meant =
            meant(&stack, &|_| true, &owned(&["worker", "*.1", "worker", "all"])).expect("they are there");
        assert_eq!(meant.each, [vec![3, 4], vec![0, 3], vec![0, 1, 2, 3, 4]]);
        assert_eq!(meant.places, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn names_are_counted_once_and_up_to_a_limit() {
        let numbered =
            |count: usize, end: &str| (0..count).map(|at| format!("w{at}{end}")).collect::<Vec<_>>();
        assert_eq!(distinct(numbered(MOST_NAMES, "")).map(|names| names.len()), Ok(MOST_NAMES));
        let refused = distinct(numbered(MOST_NAMES + 1, "")).expect_err("one too many");
        assert_eq!(refused, "10001 names are too many (write 10000 or fewer, or patterns such as web*)");
        assert_eq!(distinct(numbered(MOST_PATTERNS, "*")).map(|names| names.len()), Ok(MOST_PATTERNS));
        let refused = distinct(numbered(MOST_PATTERNS + 1, "*")).expect_err("one too many");
        assert_eq!(refused, "101 patterns are too many (write 100 or fewer)");
        assert_eq!(distinct(owned(&["b", "a", "b", "a"])), Ok(owned(&["b", "a"])));
        assert_eq!(distinct(vec!["web*".to_owned(); 1 << 20]), Ok(owned(&["web*"])));
    }

    /// As many names as there may be, in the largest stack that there may be.
    #[test]
    fn names_cost_no_more_where_there_are_many_instances() {
        let most = MOST_NAMES;
        let stack = stack(&typed("web: x", |options| {
            options.give("formation", Given::new("-m", [format!("web={most}")]));
            options.no_port = true;
        }));
        let names: Vec<String> = (1..=most).map(|number| format!("web.{number}")).collect();
        assert_eq!(matching(&stack, &|_| true, &names).map(|all| all.len()), Ok(most));
        let selection = Selection::new(&names);
        assert!(stack.instances.iter().all(|instance| selection.has(&instance.name)));
        let patterns: Vec<String> = (0..MOST_PATTERNS).map(|at| format!("*?*?*x{at}")).collect();
        assert!(matching(&stack, &|_| true, &patterns).is_err());
        let selection = Selection::new(&patterns);
        assert!(!stack.instances.iter().step_by(10).any(|instance| selection.has(&instance.name)));
        // A call may hold one name of a quarter of a megabyte.
        let long = "?*".repeat(1 << 17);
        for name in [&long, &"x".repeat(1 << 18)] {
            let none = matching(&stack, &|_| true, std::slice::from_ref(name)).expect_err("it fits none");
            assert_eq!(none.nearest, None);
        }
    }

    #[test]
    fn only_what_is_present_is_meant() {
        let not_web_2 = |place| place != 1;
        assert_eq!(named(&some(), &not_web_2, &["web"]), Ok("web.1 web.3".into()));
        assert_eq!(
            named(&some(), &not_web_2, &["web.2"]),
            Err("there is no web.2 (there are web.1, web.3)".into())
        );
        assert_eq!(named(&some(), &|_| false, &["all"]), Ok(String::new()));
    }

    #[test]
    fn a_name_that_means_nothing_says_what_there_is() {
        let refused = |name: &str| named(&some(), &|_| true, &["web", name]).expect_err(name);
        assert_eq!(refused("wbe"), "no instance is called \"wbe\" (write web)");
        assert_eq!(refused("wroker.1"), "no instance is called \"wroker.1\" (write worker.1)");
        assert_eq!(
            refused("zzzzzz"),
            "no instance is called \"zzzzzz\" (there are web, clock, worker, web.1, web.2, web.3, worker.1, worker.2)"
        );
        assert_eq!(
            refused("x*"),
            "no name fits \"x*\" (there are web, clock, worker, web.1, web.2, web.3, worker.1, worker.2)"
        );
        assert_eq!(refused("web.7"), "there is no web.7 (there are web.1, web.2, web.3)");
        assert_eq!(refused("clock"), "there is no instance of clock (write lpm start clock)");
        assert_eq!(refused("clock.1"), "there is no instance of clock (write lpm start clock)");
        assert_eq!(
            refused(""),
            "no instance is called \"\" (there are web, clock, worker, web.1, web.2, web.3, worker.1, worker.2)"
        );
        let none = matching(&some(), &|_| true, &["wbe".to_owned()]).expect_err("no such");
        assert_eq!((none.name.as_str(), none.nearest.as_deref()), ("wbe", Some("web")));
    }

    #[test]
    fn a_place_out_of_order_is_found_in_order() {
        let mut stack = some();
        stack.instances.rotate_left(2);
        assert_eq!(named(&stack, &|_| true, &[]), Ok("web.1 web.2 web.3 worker.1 worker.2".into()));
    }

    #[test]
    fn a_name_that_is_not_there_is_told_without_its_control_characters() {
        let stack = stack(&typed("web: x", |_| {}));
        let none = matching(&stack, &|_| true, &["web.\x1b[2J".to_owned()]).expect_err("there is none");
        assert_eq!(none.to_string(), "there is no web.\\u{1b}[2J (there are web.1)");
    }

    proptest! {
        #[test]
        fn what_is_found_is_present_sorted_and_unique(
            web in 0u32..6, worker in 0u32..6,
            mask in any::<u16>(),
            names in proptest::collection::vec("(all|web|worker|[w*][eo*?]{0,3}[.]?[1-4*?]?)", 0..4),
        ) {
            let sources = typed("web: x\nworker: x", |options| {
                options.give("formation", Given::new("-m", [format!("web={web},worker={worker}")]));
            });
            let stack = stack(&sources);
            let present = |place: usize| mask >> place & 1 == 1;
            match matching(&stack, &present, &names) {
                Ok(found) => {
                    prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
                    prop_assert!(found.iter().all(|&place| present(place)));
                    // Each alone means no more than all of them together.
                    for name in &names {
                        let alone = matching(&stack, &present, std::slice::from_ref(name)).expect("it was found");
                        prop_assert!(alone.iter().all(|place| found.contains(place)));
                    }
                }
                Err(none) => {
                    prop_assert!(names.contains(&none.name) && !none.to_string().is_empty());
                    prop_assert!(matching(&stack, &present, std::slice::from_ref(&none.name)).is_err());
                }
            }
        }

        #[test]
        fn an_instance_is_found_by_its_name_and_by_its_type(count in 1u32..30, at in 0usize..30) {
            let stack = stack(&typed("web: x", |options| {
                options.give("formation", Given::new("-m", [format!("web={count}")]));
            }));
            let at = at % stack.instances.len();
            let own = matching(&stack, &|_| true, std::slice::from_ref(&stack.instances[at].name));
            prop_assert_eq!(own, Ok(vec![at]));
            prop_assert_eq!(matching(&stack, &|_| true, &["web".into()]).map(|all| all.len()), Ok(count as usize));
        }

        #[test]
        fn a_pattern_made_of_a_name_fits_it(name in "[a-z.]{0,8}", from in 0usize..9, to in 0usize..9) {
            let (from, to) = (from.min(name.len()), to.min(name.len()));
            let (from, to) = (from.min(to), from.max(to));
            let starred = format!("{}*{}", &name[..from], &name[to..]);
            let fits = |pattern: &str, name: &str| Pattern::new(pattern).fits(name);
            prop_assert!(fits(&starred, &name), "{starred} {name}");
            let marked = format!("{}{}{}", &name[..from], "?".repeat(to - from), &name[to..]);
            prop_assert!(fits(&marked, &name), "{marked} {name}");
            prop_assert_eq!(fits(&name, &format!("{name}x")), false);
        }
    }

    #[test]
    fn an_empty_stack_has_no_names() {
        let stack = Stack { processes: Vec::new(), instances: Vec::new(), ..stack(&procfile("web: x")) };
        assert_eq!(
            named(&stack, &|_| true, &["web"]),
            Err("no instance is called \"web\" (there is none)".into())
        );
    }
}
