//! The link: a log upward that edges append to, and one downward of the cloud's, like topics.

use support::stream::Chance;

/// A message with its key.
pub type Message = (String, Vec<u8>);

/// The two logs.
#[derive(Default)]
pub struct Net {
    pub up: Vec<Message>,
    pub down: Vec<Message>,
    /// Messages in flight that their sender takes for lost.
    late: Vec<(bool, Message)>,
}

impl Net {
    /// Sends a message; returns whether its sender gets an acknowledgement.
    pub fn send(
        &mut self,
        is_up: bool,
        message: Message,
        chance: &mut Chance,
        rough: bool,
    ) -> bool {
        let draw = if rough { chance.below(20) } else { 0 };
        let log = if is_up { &mut self.up } else { &mut self.down };
        match draw {
            // It arrives without acknowledgement.
            15 => log.push(message),
            // It is lost.
            16 => {}
            // It arrives late, after it was sent again.
            17 => self.late.push((is_up, message)),
            // It arrives twice.
            18 => log.extend([message.clone(), message]),
            // It arrives, and an older message again after it.
            19 => {
                let key = message.0.clone();
                log.push(message);
                let before: Vec<&Message> = log.iter().filter(|(other, _)| *other == key).collect();
                let again = before[chance.below(before.len() as u64) as usize].clone();
                log.push(again);
            }
            _ => log.push(message),
        }
        !(15..18).contains(&draw)
    }

    /// Delivers one late message.
    pub fn deliver_late(&mut self, chance: &mut Chance) {
        if self.late.is_empty() {
            return;
        }
        let place = chance.below(self.late.len() as u64) as usize;
        let (is_up, message) = self.late.swap_remove(place);
        let log = if is_up { &mut self.up } else { &mut self.down };
        log.push(message);
    }

    /// Whether a message is late.
    pub fn is_late(&self) -> bool {
        !self.late.is_empty()
    }
}
