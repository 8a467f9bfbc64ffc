//! A broker that takes QoS 1 messages and acknowledges them as its script says.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is done with one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// CONNACK, PUBACK.
    Acknowledge,
    /// CONNACK; the message is taken, and its PUBACK lost with the connection.
    LoseAck,
    /// CONNACK; the message is taken, and nothing follows.
    Hang,
    /// CONNACK with a refusal.
    RefuseLogin,
}

#[derive(Debug, Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    messages: Mutex<Vec<(String, serde_json::Value, Act)>>,
    logins: Mutex<Vec<Option<(String, String)>>>,
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub address: SocketAddr,
    script: Arc<Script>,
}

impl Broker {
    /// Does `acts` in turn, then acknowledges.
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

    /// Topic, body, and what was done.
    pub fn messages(&self) -> Vec<(String, serde_json::Value, Act)> {
        self.script.messages.lock().unwrap().clone()
    }

    /// (key, whether it was acknowledged) of each message.
    pub fn keys(&self) -> Vec<(String, bool)> {
        let key = |body: &serde_json::Value| body["key"].as_str().unwrap().to_owned();
        self.messages().iter().map(|(_, body, act)| (key(body), *act == Act::Acknowledge)).collect()
    }

    pub fn logins(&self) -> Vec<Option<(String, String)>> {
        self.script.logins.lock().unwrap().clone()
    }
}

async fn talk(mut stream: TcpStream, script: &Script) -> std::io::Result<()> {
    let act = script.acts.lock().unwrap().pop_front().unwrap_or(Act::Acknowledge);
    let mut received = BytesMut::new();
    loop {
        match Packet::read(&mut received, 1 << 20) {
            Ok(Packet::Connect(connect)) => {
                let login = connect.login.map(|login| (login.username, login.password));
                script.logins.lock().unwrap().push(login);
                let code = match act {
                    Act::RefuseLogin => ConnectReturnCode::NotAuthorized,
                    _ => ConnectReturnCode::Success,
                };
                send(&mut stream, &Packet::ConnAck(ConnAck::new(code, false))).await?;
            }
            Ok(Packet::Publish(publish)) => {
                let body = serde_json::from_slice(&publish.payload).unwrap();
                script.messages.lock().unwrap().push((publish.topic.clone(), body, act));
                match act {
                    Act::Acknowledge => send(&mut stream, &Packet::PubAck(PubAck::new(publish.pkid))).await?,
                    Act::LoseAck | Act::RefuseLogin => return Ok(()),
                    Act::Hang => std::future::pending().await,
                }
            }
            Ok(Packet::Disconnect) => return Ok(()),
            Ok(_) => {}
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
            Err(error) => return Err(std::io::Error::other(format!("{error:?}"))),
        }
    }
}

async fn send(stream: &mut TcpStream, packet: &Packet) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, 1 << 20).map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    stream.write_all(&bytes).await
}
