//! Events in a row that many streams send, from any one of them on.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{Encoded, Event};

/// Events as a stream writes them. What is taken out of it shares its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    text: Bytes,
    places: Vec<Place>,
}

/// Where an event is in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    first: usize,
    /// Behind its id.
    content: usize,
}

impl Run {
    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Some of them, ids and all, for [`Piece::Written`](super::Piece::Written).
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn written(&self, events: Range<usize>) -> Bytes {
        self.text.slice(self.first(events.start)..self.first(events.end))
    }

    /// One of them without its id, for a stream that gives it another.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn encoded(&self, event: usize) -> Encoded {
        Encoded(self.text.slice(self.places[event].content..self.first(event + 1)))
    }

    /// The data of one of them.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn data(&self, event: usize) -> String {
        let Encoded(content) = self.encoded(event);
        let text = String::from_utf8_lossy(&content);
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn first(&self, event: usize) -> usize {
        match self.places.get(event) {
            Some(place) => place.first,
            None if event == self.places.len() => self.text.len(),
            None => panic!("event {event} of {}", self.places.len()),
        }
    }
}

impl FromIterator<Event> for Run {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let (mut text, mut places) = (BytesMut::new(), Vec::new());
        for event in events {
            let first = text.len();
            event.write_id(&mut text);
            places.push(Place { first, content: text.len() });
            event.content.write(&mut text);
        }
        Self { text: text.freeze(), places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_run_is_sent_from_where_it_is() {
        let events = ["a", "b\nc", "d"].into_iter().zip(7..);
        let run: Run = events.map(|(data, id)| Event::new(data).id(id)).collect();
        let all = "id: 7\ndata: a\n\nid: 8\ndata: b\ndata: c\n\nid: 9\ndata: d\n\n";
        assert_eq!((run.len(), run.bytes()), (3, all.len()));
        assert_eq!(run.written(0..3), all);
        assert_eq!(run.written(1..2), "id: 8\ndata: b\ndata: c\n\n");
        assert_eq!(run.written(3..3), "");
        assert_eq!(run.data(1), "b\nc");
        assert_eq!(run.encoded(1), Event::new("b\nc").encode());
        let whole = run.written(0..3);
        assert_eq!(run.written(1..3).as_ptr(), whole[run.written(0..1).len()..].as_ptr());
    }
}
