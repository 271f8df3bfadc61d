//! The page `docs/tour.md`: what stands there is what is run.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use crate::support::konekt::{Konekt, Place};

/// The page, and the folder that its commands run in.
pub struct Page {
    text: String,
    place: Place,
    /// The variables of the `.env` that the page asks for.
    environment: Vec<(String, String)>,
    used: RefCell<BTreeSet<String>>,
}

impl Page {
    /// Opens the page; `environment` is this machine's `.env`.
    ///
    /// # Panics
    /// When the page's `.env` has other names.
    pub fn open(environment: &[(&str, &str)]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tour.md");
        let text = std::fs::read_to_string(path).expect("there is a tour");
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let page = Self { text, place: Place::new(), environment, used: RefCell::default() };
        let written = page.block("ini");
        let names: Vec<&str> = written.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert_eq!(names, page.environment.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        page
    }

    /// The command of the page that begins with these words.
    pub fn command(&self, begins: &str) -> Konekt {
        let commands = self.commands();
        let mut found = commands.iter().filter(|command| command.starts_with(begins));
        let (Some(command), None) = (found.next(), found.next()) else {
            panic!("not one command of the page begins with {begins:?}: {commands:#?}");
        };
        self.used.borrow_mut().insert(command.clone());
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let konekt = self.place.konekt(&words);
        self.environment.iter().fold(konekt, |konekt, (name, value)| konekt.variable(name, value))
    }

    /// The question that the page puts to both databases.
    pub fn question(&self) -> String {
        self.block("sql").trim().to_owned()
    }

    /// The folder.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Demands that nothing on the page was left out.
    pub fn expect_all_was_run(&self) {
        let used = self.used.borrow();
        let left: Vec<String> = self.commands().into_iter().filter(|command| !used.contains(command)).collect();
        assert!(left.is_empty(), "the page has commands that the test does not run: {left:#?}");
    }

    fn commands(&self) -> Vec<String> {
        let lines = self.blocks("sh").flat_map(str::lines).map(str::to_owned);
        let commands: Vec<String> = lines.collect();
        assert!(commands.iter().all(|command| command.starts_with("konekt ")), "{commands:#?}");
        commands
    }

    fn block(&self, language: &str) -> String {
        self.blocks(language).next().unwrap_or_else(|| panic!("the page has no block of {language}")).to_owned()
    }

    fn blocks<'a>(&'a self, language: &str) -> impl Iterator<Item = &'a str> {
        let opening = format!("```{language}\n");
        let parts: Vec<&str> = self.text.split(&opening).skip(1).collect();
        parts.into_iter().map(|part| part.split("```").next().unwrap_or_default())
    }
}
