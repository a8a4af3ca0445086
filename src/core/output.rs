//! What comes out of the core: effects and news, in order.

use std::{collections::VecDeque, sync::Arc};

use log::Level;

use super::{attempt::AttemptId, effect::Effect};
use crate::view::News;

/// How much news is kept for a shell that doesn't fetch it, so that nothing piles up: far more than
/// one event makes.
const MAX_NEWS: usize = 100_000;

/// Effects and news for the shell to fetch, and names for what it is asked to do.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Output {
    pub effects: VecDeque<Effect>,
    pub news: VecDeque<News>,
    /// How many attempts have been named.
    pub attempts: u64,
}

impl Output {
    /// A name that no operation has had.
    pub fn attempt(&mut self) -> AttemptId {
        self.attempts = self.attempts.saturating_add(1);
        AttemptId(self.attempts)
    }

    pub fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub fn log(&mut self, level: Level, account: &Arc<str>, message: impl Into<String>) {
        self.emit(Effect::Log {
            level,
            account: account.clone(),
            message: message.into(),
        });
    }

    /// For `watch`. When there is too much of it, the oldest is dropped.
    pub fn report(&mut self, news: News) {
        if self.news.len() >= MAX_NEWS {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{time::Wall, view::Happening};

    #[test]
    fn of_too_much_news_the_oldest_is_dropped() {
        let mut output = Output::default();
        for number in 0..=MAX_NEWS {
            output.report(News {
                at: Wall::from_millis(number as i64),
                ..Happening::Reloaded.into()
            });
        }
        let at = |news: Option<&News>| news.map(|news| news.at.millis());
        assert_eq!(output.news.len(), MAX_NEWS);
        assert_eq!(at(output.news.front()), Some(1));
        assert_eq!(at(output.news.back()), Some(MAX_NEWS as i64));
    }
}
