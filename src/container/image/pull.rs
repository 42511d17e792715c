//! skeleton
use super::*;
#[derive(Default)]
pub struct Flights;
pub async fn pull(
    _images: &Images,
    _reference: reference::Reference,
    _progress: Option<mpsc::Sender<Progress>>,
) -> Result<Arc<Image>, Error> {
    todo!()
}
