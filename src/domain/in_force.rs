//! A value that others read while it is replaced: settings, and what is made of them.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

/// Who has begun something ends it with the value that it began with.
#[derive(Debug)]
pub struct InForce<T>(RwLock<Arc<T>>);

impl<T> InForce<T> {
    pub fn new(value: T) -> InForce<T> {
        InForce(RwLock::new(Arc::new(value)))
    }

    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}
