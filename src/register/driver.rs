//! Proposing: the fast round, then classic ballots, over the regions of a lake.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::acceptor::{Acceptor, Appended, SlotName};
use super::core::{Ballot, Choice, Log, Rules, Standing, choose, counts, next_round, standing};
use super::patience::Patience;
use super::tasks::Tasks;
use super::{Closed, Decided, collected};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::EntryBody;
use crate::id::{ProposerId, random_bytes};
use crate::key::PrivateKey;

/// Contended classic ballots after which a proposer gives up.
const CONTENDED_LIMIT: u32 = 40;
/// Classic ballots without a quorum of answers after which it gives up.
const UNREACHABLE_LIMIT: u32 = 2;
/// Pause between contended ballots: random, up to this much doubled at every attempt.
const BACKOFF_STEP: Duration = Duration::from_millis(4);
/// Longest pause between contended ballots.
const BACKOFF_LIMIT: Duration = Duration::from_millis(800);
/// How an attempt ended.
enum Ended {
    /// The slot is decided.
    Decided(Digest),
    /// A quorum promised this ballot and nobody of them had voted: nothing to complete, and nothing below it can be decided.
    Empty(Ballot),
    /// A higher ballot is at work.
    Contended,
    /// Fewer than a quorum answered.
    Unreachable,
}

/// A region's answer to an append, with what it is known to hold.
struct Answer {
    index: usize,
    acceptor: Acceptor,
    outcome: Result<Appended>,
}

/// One attempt to have one slot decided.
pub(super) struct Proposer {
    name: Arc<SlotName>,
    rules: Rules,
    writer: Arc<PrivateKey>,
    tasks: Tasks,
    acceptors: Vec<Acceptor>,
    own: Option<Bytes>,
    errors: Vec<Option<Error>>,
}

impl Proposer {
    /// A proposer of `own`; without it, one that completes what others began.
    pub(super) fn new(name: Arc<SlotName>, rules: Rules, writer: Arc<PrivateKey>, tasks: Tasks, own: Option<Bytes>) -> Self {
        let acceptors: Vec<_> = name.regions.voters().iter().map(|region| Acceptor::new(Arc::clone(&name), Arc::clone(region))).collect();
        let errors = acceptors.iter().map(|_| None).collect();
        Self { name, rules, writer, tasks, acceptors, own, errors }
    }

    /// Starts with what a reader learned already, of all regions in their order, and with what each failed with.
    pub(super) fn knowing(self, acceptors: Vec<Acceptor>, errors: Vec<Option<Error>>) -> Self {
        Self { acceptors, errors, ..self }
    }

    /// Whether a quorum can be had for a choice: of regions that did not fail, and whose logs count as far as they are known.
    ///
    /// Where it cannot, promises would be asked for in vain, at every read of the slot, until its logs are full.
    fn may_choose(&self) -> bool {
        let logs = self.logs();
        let may_count =
            |(acceptor, error): &(&Acceptor, &Option<Error>)| error.is_none() && (!acceptor.is_complete() || counts(acceptor.log(), &logs));
        self.acceptors.iter().zip(&self.errors).filter(may_count).count() >= self.rules.classic
    }

    /// Proposes by the fast ballot first, then by classic ones.
    pub(super) async fn propose(mut self, value: Bytes) -> Result<Decided> {
        if let Some(digest) = self.fast_round(value).await? {
            return self.decided(digest);
        }
        match self.classic().await? {
            Closed::Decided(decided) => Ok(decided),
            Closed::Undecided(_) | Closed::NotBegun => Err(Error::new(ErrorKind::Internal, "a proposer found nothing to propose")),
        }
    }

    /// Completes what others began, or closes the slot to it.
    pub(super) async fn resolve(mut self) -> Result<Closed> {
        let closed = self.classic().await?;
        if let Closed::Undecided(ballot) = closed {
            self.tell_undecided(ballot);
        }
        Ok(closed)
    }

    /// Lets regions take part that came later than an entry of this slot: without a decision, nobody else would ever tell them.
    fn tell_undecided(&self, ballot: Ballot) {
        let logs = self.logs();
        for acceptor in self.acceptors.iter().filter(|acceptor| !counts(acceptor.log(), &logs)) {
            let (mut acceptor, writer) = (acceptor.clone(), Arc::clone(&self.writer));
            self.tasks.spawn(async move {
                // Whoever cannot be told now stays down for the slot, as before.
                let _ = acceptor.append(&EntryBody::Undecided(ballot), &writer).await;
            });
        }
    }

    /// Exactly one create of entry 0 a region, when all is well.
    async fn fast_round(&mut self, value: Bytes) -> Result<Option<Digest>> {
        let mut answers = self.send(&EntryBody::Accept(Ballot::FAST, value));
        let mut patience = Patience::begin();
        let (mut pending, mut reached) = (self.rules.regions, 0);
        while pending > 0 {
            let Some(answer) = patience.wait(answers.recv()).await else { break };
            pending -= 1;
            reached += usize::from(answer.outcome.is_ok());
            self.note(answer);
            if let Some(digest) = self.certain()? {
                return Ok(Some(digest));
            }
            // A classic ballot takes no longer than it must when the logs of a quorum are known.
            if self.most_fast_votes() + pending < self.rules.fast && reached >= self.rules.classic {
                break;
            }
            if reached >= self.rules.classic {
                patience.end_soon();
            }
        }
        Ok(None)
    }

    async fn classic(&mut self) -> Result<Closed> {
        let (mut contended, mut unreachable) = (0, 0);
        loop {
            match self.classic_attempt().await? {
                Ended::Decided(digest) => return self.decided(digest).map(Closed::Decided),
                Ended::Empty(ballot) => return Ok(Closed::Undecided(ballot)),
                Ended::Contended => contended += 1,
                Ended::Unreachable => unreachable += 1,
            }
            if contended >= CONTENDED_LIMIT || unreachable >= UNREACHABLE_LIMIT {
                return Err(self.unknown());
            }
            pause(contended + unreachable).await?;
            // Another proposer may be done by now: look before disturbing it.
            self.look().await;
            if let Some(digest) = self.certain()? {
                return self.decided(digest).map(Closed::Decided);
            }
        }
    }

    /// One ballot: promises of a quorum, the choice that they leave, votes of a quorum.
    async fn classic_attempt(&mut self) -> Result<Ended> {
        if self.own.is_none() && !self.may_choose() {
            return Ok(Ended::Unreachable);
        }
        let ballot = Ballot { round: next_round(&self.logs()), proposer: ProposerId::random()? };
        #[cfg(test)]
        if let Some(value) = self.choice_without_promise() {
            return self.vote(ballot, value).await;
        }
        let mut before: Vec<Log<Digest>> = Vec::new();
        let mut answers = self.send(&EntryBody::Promise(ballot));
        let mut patience = Patience::begin();
        let (mut pending, mut refused) = (self.rules.regions, 0);
        let choice = loop {
            if before.len() + pending < self.rules.classic {
                return Ok(if refused > 0 { Ended::Contended } else { Ended::Unreachable });
            }
            let Some(answer) = patience.wait(answers.recv()).await else {
                return Ok(if refused > 0 { Ended::Contended } else { Ended::Unreachable });
            };
            pending -= 1;
            match &answer.outcome {
                Ok(Appended::At(position)) => before.push(answer.acceptor.log().prefix(*position)),
                Ok(Appended::Refused) => refused += 1,
                Err(_) => {}
            }
            if refused > 0 && before.len() + refused >= self.rules.classic {
                patience.end_soon();
            }
            self.note(answer);
            if let Some(digest) = self.certain()? {
                return Ok(Ended::Decided(digest));
            }
            if let Some(choice) = choose(&self.rules, &before.iter().collect::<Vec<_>>()) {
                break choice;
            }
        };
        let value = match (choice, &self.own) {
            (Choice::Bound(digest), _) | (Choice::Free(Some(digest)), None) => self.value(&digest)?,
            (Choice::Free(_), Some(own)) => own.clone(),
            (Choice::Free(None), None) => return Ok(Ended::Empty(ballot)),
        };
        self.vote(ballot, value).await
    }

    #[cfg(test)]
    fn choice_without_promise(&self) -> Option<Bytes> {
        let own = self.own.as_ref().filter(|_| super::mutant::is_on(super::mutant::Mutant::SkipPromise))?;
        let vote = super::core::Record::Accept(Ballot::FAST, Digest::of(own));
        let voted: Vec<Log<Digest>> = self.logs().iter().map(|log| log.prefix(1)).filter(|log| log.records() == [vote]).collect();
        choose(&self.rules, &voted.iter().collect::<Vec<_>>()).map(|_| own.clone())
    }

    async fn vote(&mut self, ballot: Ballot, value: Bytes) -> Result<Ended> {
        let mut answers = self.send(&EntryBody::Accept(ballot, value));
        let mut patience = Patience::begin();
        let (mut pending, mut votes, mut refused) = (self.rules.regions, 0, 0);
        while votes + pending >= self.rules.classic {
            let Some(answer) = patience.wait(answers.recv()).await else { break };
            pending -= 1;
            match &answer.outcome {
                Ok(Appended::At(_)) => votes += 1,
                Ok(Appended::Refused) => refused += 1,
                Err(_) => {}
            }
            if refused > 0 && votes + refused >= self.rules.classic {
                patience.end_soon();
            }
            self.note(answer);
            if let Some(digest) = self.certain()? {
                return Ok(Ended::Decided(digest));
            }
        }
        Ok(if refused > 0 { Ended::Contended } else { Ended::Unreachable })
    }

    /// Appends `body` at every region, in tasks that go on when nobody waits for their answers any more.
    fn send(&self, body: &EntryBody) -> mpsc::Receiver<Answer> {
        let (sender, receiver) = mpsc::channel(self.rules.regions.max(1));
        for (index, acceptor) in self.acceptors.iter().enumerate() {
            let (sender, body, writer) = (sender.clone(), body.clone(), Arc::clone(&self.writer));
            let mut acceptor = acceptor.clone();
            self.tasks.spawn(async move {
                let outcome = acceptor.append(&body, &writer).await;
                // A proposer that has its answer no longer listens.
                let _ = sender.send(Answer { index, acceptor, outcome }).await;
            });
        }
        receiver
    }

    /// Reads on in all regions until enough is certain or all have answered.
    async fn look(&mut self) {
        let (sender, mut answers) = mpsc::channel(self.rules.regions.max(1));
        for (index, acceptor) in self.acceptors.iter().enumerate() {
            let sender = sender.clone();
            let mut acceptor = acceptor.clone();
            self.tasks.spawn(async move {
                let outcome = acceptor.read(0).await.map(|()| Appended::Refused);
                let _ = sender.send(Answer { index, acceptor, outcome }).await;
            });
        }
        drop(sender);
        let mut reached = 0;
        while let Some(answer) = answers.recv().await {
            reached += usize::from(answer.outcome.is_ok());
            self.note(answer);
            if reached >= self.rules.classic && (self.own.is_some() || self.may_choose()) {
                return;
            }
        }
    }

    /// Keeps what an answer shows: a log only grows, and a region that failed is not seen.
    fn note(&mut self, answer: Answer) {
        let Answer { index, acceptor, outcome } = answer;
        if let Some(known) = self.acceptors.get_mut(index)
            && acceptor.log().len() >= known.log().len()
        {
            *known = acceptor;
        }
        if let Some(error) = self.errors.get_mut(index) {
            *error = outcome.err();
        }
    }

    fn logs(&self) -> Vec<&Log<Digest>> {
        self.acceptors.iter().map(Acceptor::log).collect()
    }

    /// The fast votes of whichever value has the most.
    fn most_fast_votes(&self) -> usize {
        let fast = |acceptor: &Acceptor| acceptor.log().votes().next().filter(|(ballot, _)| ballot.is_fast());
        let votes: Vec<_> = self.acceptors.iter().filter_map(fast).collect();
        votes.iter().map(|vote| votes.iter().filter(|other| *other == vote).count()).max().unwrap_or(0)
    }

    /// What the votes seen so far decide. Votes are for ever, so logs that are cut, or of regions that failed since, serve as well.
    fn certain(&self) -> Result<Option<Digest>> {
        match standing(&self.rules, &self.logs()) {
            Standing::Decided(digest) => Ok(Some(digest)),
            Standing::Collected(digest) if self.own.as_ref().is_some_and(|own| Digest::of(own) == digest) => Ok(Some(digest)),
            Standing::Collected(_) => Err(collected(&self.name)),
            Standing::Undecided | Standing::Open => Ok(None),
        }
    }

    fn value(&self, digest: &Digest) -> Result<Bytes> {
        let own = self.own.iter().find(|own| Digest::of(own) == *digest);
        own.or_else(|| self.acceptors.iter().find_map(|acceptor| acceptor.value(digest)))
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a vote was counted whose value was not read"))
    }

    fn decided(&self, digest: Digest) -> Result<Decided> {
        Ok(Decided { slot: self.name.slot, value: self.value(&digest)?, digest })
    }

    fn unknown(&mut self) -> Error {
        let error =
            Error::new(ErrorKind::OutcomeUnknown, "too few regions answered to learn what was decided; it may be this write or another")
                .with("path", &self.name.path)
                .with("slot", self.name.slot);
        super::blame(error, self.acceptors.iter().map(Acceptor::region).zip(self.errors.iter().map(Option::as_ref)))
    }
}

async fn pause(attempt: u32) -> Result<()> {
    let most = BACKOFF_STEP.saturating_mul(1 << attempt.min(16)).min(BACKOFF_LIMIT);
    let part = u32::from_le_bytes(random_bytes()?) >> 16;
    sleep(most.saturating_mul(part) / (1 << 16)).await;
    Ok(())
}
