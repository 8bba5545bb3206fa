//! Which instances a user means: process types, instances, `all`, and patterns over their names.
//!
//! `*` stands for any letters, also none, and `?` for one; a dot is a letter too: `w*` is all of web, `*.1` the
//! first of each. Nothing else has a meaning.

use std::collections::BTreeSet;
use std::fmt;

use super::error::{list, nearest, quote};
use super::stack::Stack;

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
    let here: Vec<usize> = in_order(stack).into_iter().filter(|&place| present(place)).collect();
    if names.is_empty() {
        return Ok(here);
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        let mut found = name == "all";
        for (rank, &place) in here.iter().enumerate() {
            let instance = &stack.instances[place];
            if self::names(name, &instance.name) {
                found = true;
                chosen.insert(rank);
            }
        }
        if !found {
            return Err(NoSuch::new(name, stack, &here));
        }
    }
    Ok(chosen.into_iter().map(|rank| here[rank]).collect())
}

/// Whether `name`, which may be a process type, an instance, a pattern or `all`, means this instance, whatever its
/// stack: also one that comes later. What has no number is no instance, and never meant.
pub fn names(name: &str, instance: &str) -> bool {
    let Some((process, _)) = instance.rsplit_once('.') else { return false };
    name == "all" || fits(name, instance) || fits(name, process)
}

/// All places of `stack`, in file order, then by number: a stack that was changed while it runs has them in
/// another order.
pub(super) fn in_order(stack: &Stack) -> Vec<usize> {
    let mut places: Vec<usize> = (0..stack.instances.len()).collect();
    places.sort_by_key(|&place| (stack.instances[place].process, stack.instances[place].number));
    places
}

/// Whether `pattern` fits the whole of `name`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much of the name it had taken: the only place to go back to.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
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
                        write!(f, "there is no {} (there are {})", self.name, list(of.map(String::as_str)))
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
            options.formation = Given::new("-m", ["web=3,worker=2"]);
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
        let means =
            |name: &str| ["web.1", "web.10", "we.1", "worker.1"].map(|instance| names(name, instance));
        assert_eq!(means("web"), [true, true, false, false]);
        assert_eq!(means("web.1"), [true, false, false, false]);
        assert_eq!(means("we*"), [true, true, true, false]);
        assert_eq!(means("*.1"), [true, false, true, true]);
        assert_eq!(means("all"), [true; 4]);
        assert_eq!(means(""), [false; 4]);
        // What lpm says of the whole stack belongs to no instance.
        assert!(!names("*", "system") && !names("all", "system"));
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

    proptest! {
        #[test]
        fn what_is_found_is_present_sorted_and_unique(
            web in 0u32..6, worker in 0u32..6,
            mask in any::<u16>(),
            names in proptest::collection::vec("(all|web|worker|[w*][eo*?]{0,3}[.]?[1-4*?]?)", 0..4),
        ) {
            let sources = typed("web: x\nworker: x", |options| {
                options.formation = Given::new("-m", [format!("web={web},worker={worker}")]);
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
                options.formation = Given::new("-m", [format!("web={count}")]);
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
