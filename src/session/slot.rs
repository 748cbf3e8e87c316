//! Slots: values of a program, looked up by name once and reached without one from then on.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Error, Result,
    plan::MemoryPlan,
    tensor::{DType, Place, Spec},
};

/// An element type that values have.
pub trait Scalar: bytemuck::Pod {
    /// Its name in specs.
    const DTYPE: DType;
}

impl Scalar for f32 {
    const DTYPE: DType = DType::F32;
}

impl Scalar for u8 {
    const DTYPE: DType = DType::U8;
}

impl Scalar for u32 {
    const DTYPE: DType = DType::U32;
}

/// A persistent value of one bound program, with elements of type `T`. Made by [`slot`](trait@super::Program#method.slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<T> {
    program: u64,
    pub(super) index: usize,
    pub(super) place: Place,
    elements: PhantomData<fn() -> T>,
}

impl<T> Slot<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.place.bytes / size_of::<T>()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.place.bytes == 0
    }
}

/// The persistent values of a bound program by name.
#[derive(Debug)]
pub struct Directory {
    /// Tells the slots of this program from those of another.
    program: u64,
    values: HashMap<String, (usize, Spec, Place)>,
}

impl Directory {
    pub(super) fn of(plan: &MemoryPlan) -> Self {
        static PROGRAMS: AtomicU64 = AtomicU64::new(0);
        let values = plan.persistent.iter().enumerate();
        Self {
            program: PROGRAMS.fetch_add(1, Ordering::Relaxed),
            values: values.map(|(index, value)| (value.name.clone(), (index, value.spec, value.place))).collect(),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The position of a value in the plan.
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.values.get(name).map(|value| value.0)
    }

    pub(super) fn slot<T: Scalar>(&self, name: &str) -> Result<Slot<T>> {
        let &(index, spec, place) = self.find(name)?;
        if spec.dtype != T::DTYPE {
            return Err(Error::shape(name, format_args!("holds elements of {}, not {}", spec.dtype, T::DTYPE)));
        }
        Ok(Slot { program: self.program, index, place, elements: PhantomData })
    }

    /// The bytes of a value of any element type.
    pub(super) fn bytes(&self, name: &str) -> Result<Slot<u8>> {
        let &(index, _, place) = self.find(name)?;
        Ok(Slot { program: self.program, index, place, elements: PhantomData })
    }

    /// Checks that a slot is of this program and takes so many elements: exactly as many as it has, or at most.
    pub(super) fn check<T>(&self, slot: Slot<T>, elements: usize, exactly: bool) -> Result<()> {
        let holds = slot.len();
        if slot.program == self.program && (elements == holds || (!exactly && elements < holds)) {
            return Ok(());
        }
        let name = self.values.iter().find(|(_, value)| value.0 == slot.index).map_or("a slot", |(name, _)| name);
        let cause = match slot.program == self.program {
            true => format!("{elements} elements for {holds}"),
            false => "the slot is another program's".to_owned(),
        };
        Err(Error::shape(name, cause))
    }

    fn find(&self, name: &str) -> Result<&(usize, Spec, Place)> {
        self.values.get(name).ok_or_else(|| Error::shape(name, "the program has no such value"))
    }
}
