//! Mistakes that a test switches on for its thread, to show that its checks can fail.

use std::cell::Cell;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// None: the code as it is.
    None,
    /// A write whose outcome is unknown is answered as lost.
    ErrorIsLost,
    /// A write whose outcome is unknown is made once more.
    RepeatUnknown,
    /// One's own fast votes are taken for promises.
    SkipPromise,
    /// The newest slot is that of the first list that comes.
    OneListIsEnough,
    /// A slot that may be decided is read as undecided.
    ReadUnproven,
}

thread_local! {
    static ON: Cell<Mutant> = const { Cell::new(Mutant::None) };
}

/// From here on this thread makes the mistake, and no other.
pub(crate) fn switch(mutant: Mutant) {
    ON.set(mutant);
}

/// Whether this thread makes the mistake.
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == mutant
}
