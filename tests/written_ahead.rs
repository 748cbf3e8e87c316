//! Batches that are uploaded while the step before is still under way: on a machine that, like a GPU, does nothing before it
//! must, and that copies a batch at the first or at the last moment it may.

use gyrus::{
    Result,
    graph::Stage,
    machine::{Capabilities, Emulated, Launch, Machine, Recording},
    nn::{Architecture, Precision, names},
    selftest::steps::{Start, Steps},
};

/// When an upload ahead takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Right behind the mark.
    First,
    /// Just before the next start.
    Last,
    /// Before the mark, which no machine may do.
    TooEarly,
}

#[derive(Debug)]
enum Action {
    Upload(u64, Vec<u8>),
    Launch(Launch),
    Replay(Recording),
    Mark,
}

/// An emulated GPU that puts everything off until somebody waits for it.
#[derive(Debug)]
struct Deferred {
    inner: Emulated,
    queue: Vec<Action>,
    ahead: Vec<(u64, Vec<u8>)>,
    when: When,
}

impl Deferred {
    fn boxed(when: When) -> Box<dyn Machine> {
        Box::new(Self { inner: Emulated::default(), queue: Vec::new(), ahead: Vec::new(), when })
    }

    /// Uploads ahead come before this, at the latest.
    fn put(&mut self, action: Action) {
        let ahead = self.ahead.drain(..).map(|(address, bytes)| Action::Upload(address, bytes));
        self.queue.extend(ahead);
        self.queue.push(action);
    }

    fn flush(&mut self) -> Result<()> {
        let ahead = self.ahead.drain(..).map(|(address, bytes)| Action::Upload(address, bytes));
        self.queue.extend(ahead);
        for action in self.queue.drain(..) {
            match action {
                Action::Upload(address, bytes) => self.inner.upload(address, &bytes)?,
                Action::Launch(launch) => self.inner.launch(&launch)?,
                Action::Replay(recording) => self.inner.replay(recording)?,
                Action::Mark => {}
            }
        }
        Ok(())
    }
}

impl Machine for Deferred {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()> {
        self.inner.load(family, ptx)
    }

    fn is_loaded(&self, family: &str) -> bool {
        self.inner.is_loaded(family)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        self.inner.allocate(bytes)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.flush()?;
        self.inner.free(address)
    }

    fn free_memory(&mut self) -> Result<u64> {
        self.inner.free_memory()
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.put(Action::Upload(address, bytes.to_vec()));
        Ok(())
    }

    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.flush()?;
        self.inner.download(address, bytes)
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.put(Action::Launch(launch.clone()));
        Ok(())
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        self.inner.capture(launches)
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        self.put(Action::Replay(recording));
        Ok(())
    }

    fn synchronise(&mut self) -> Result<()> {
        self.flush()
    }

    fn mark(&mut self) -> Result<()> {
        self.queue.push(Action::Mark);
        Ok(())
    }

    fn upload_ahead(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let marked = self.queue.iter().rposition(|action| matches!(action, Action::Mark)).map_or(0, |mark| mark + 1);
        let action = Action::Upload(address, bytes.to_vec());
        match self.when {
            When::First => self.queue.insert(marked, action),
            When::Last => self.ahead.push((address, bytes.to_vec())),
            // Before the recording that the mark stands behind.
            When::TooEarly => self.queue.insert(marked.saturating_sub(2), action),
        }
        Ok(())
    }
}

#[test]
fn batches_written_ahead_change_no_bit_whether_they_arrive_first_or_last() {
    let steps = Steps::new(Architecture::Conv3dTransposeDropout, Precision::Fp32).unwrap();
    let (_, expected) = steps.run(Start::Launched, Box::new(Emulated::default())).unwrap();
    for when in [When::First, When::Last] {
        let (_, found) = steps.run(Start::Ahead, Deferred::boxed(when)).unwrap();
        assert_eq!(Steps::difference(&expected, &found), None, "{when:?}");
    }
    // Otherwise the marks would be of no use, or this test blind.
    let (_, wrong) = steps.run(Start::Ahead, Deferred::boxed(When::TooEarly)).unwrap();
    assert!(Steps::difference(&expected, &wrong).is_some());
}

#[test]
fn nothing_but_the_augmentation_at_the_beginning_reads_the_batch() {
    let steps = Steps::new(Architecture::default(), Precision::Fp32).unwrap();
    for name in names::TRAINING_BATCH {
        let value = steps.graph.find(name).unwrap();
        let readers: Vec<usize> =
            (0..steps.graph.nodes.len()).filter(|&node| steps.graph.nodes[node].inputs.contains(&value)).collect();
        assert_eq!(readers, [0], "{name}");
    }
    assert_eq!(steps.graph.nodes[0].op.kind(), "augment");
    // The first convolution's filter gradient reads what it made at the very end.
    let made = steps.graph.nodes[0].outputs[0];
    let last = steps.graph.nodes.iter().rposition(|node| node.inputs.contains(&made)).unwrap();
    assert_eq!(steps.graph.nodes[last].stage, Stage::Backward);
}
