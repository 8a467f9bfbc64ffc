//! A mail server that says what its script says after the text of a mail, and remembers the mails.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// What is said to one mail.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// This line, as in `250 ok`.
    Say(&'static str),
    /// This line already to RCPT TO.
    SayToRecipient(&'static str),
    /// Nothing, for ever.
    Hang,
    /// The text is read, then the connection ends.
    Drop,
}

#[derive(Debug, Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    mails: Mutex<Vec<(String, Act)>>,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Script>,
}

impl Server {
    /// Does `acts` in turn, then takes everything.
    pub async fn start(acts: Vec<Act>) -> Self {
        let script = Arc::new(Script { acts: Mutex::new(acts.into()), ..Script::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = script.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = shared.clone();
                tokio::spawn(async move { talk(stream, &script).await });
            }
        });
        Self { address, script }
    }

    /// Does `acts` next, one for each connection.
    pub fn then(&self, acts: Vec<Act>) {
        self.script.acts.lock().unwrap().extend(acts);
    }

    /// Texts of mails that were sent whole, acknowledged or not.
    pub fn mails(&self) -> Vec<String> {
        self.script.mails.lock().unwrap().iter().map(|(mail, _)| mail.clone()).collect()
    }

    /// (key made of `Message-ID`, whether it was acknowledged) of each mail that was sent whole.
    pub fn keys(&self) -> Vec<(String, bool)> {
        let key = |mail: &str| {
            let id = mail.split("Message-ID: <wattlog.").nth(1).unwrap().split('@').next().unwrap();
            id.replace('.', "/")
        };
        let mails = self.script.mails.lock().unwrap();
        mails.iter().map(|(mail, act)| (key(mail), *act == Act::Say("250 ok"))).collect()
    }
}

async fn talk(stream: TcpStream, script: &Script) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    let act = script.acts.lock().unwrap().pop_front().unwrap_or(Act::Say("250 ok"));
    writing.write_all(b"220 test\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let answer = match word.as_str() {
            "EHLO" => "250-test\r\n250 8BITMIME",
            "RCPT" => match act {
                Act::SayToRecipient(said) => said,
                _ => "250 ok",
            },
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    mail.push_str(&line);
                    mail.push('\n');
                }
                script.mails.lock().unwrap().push((mail, act.clone()));
                match act {
                    Act::Say(said) => said,
                    Act::Hang => std::future::pending().await,
                    Act::Drop => return Ok(()),
                    Act::SayToRecipient(_) => "503 no recipient",
                }
            }
            "QUIT" => {
                writing.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok",
        };
        writing.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}
