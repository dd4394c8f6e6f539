//! What is under `deploy/` fits the program and itself, as far as a machine without systemd, Docker and Kubernetes
//! can tell: flags and variables exist and have good values, ports and paths agree, times add up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_activitystreamer");
/// What a server is given beyond its drain before it is killed: see README, "Signals".
const REST_S: u64 = 3;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    let path = deploy(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(yes)) => json!(yes),
        Yaml::Value(Scalar::Integer(n)) => json!(n),
        Yaml::Value(Scalar::FloatingPoint(n)) => json!(n.0),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(all) => all.iter().map(json).collect(),
        Yaml::Mapping(all) => {
            let text = |key: &Yaml<'_>| json(key).as_str().expect("keys are texts").to_owned();
            Value::Object(all.iter().map(|(key, value)| (text(key), json(value))).collect::<Map<_, _>>())
        }
        other => panic!("manifests need no such thing: {other:?}"),
    }
}

/// All documents of the manifests, by kind and name.
fn manifests() -> BTreeMap<(String, String), Value> {
    let list = json(&Yaml::load_from_str(&read("kubernetes/kustomization.yaml")).expect("YAML")[0]);
    let mut all = BTreeMap::new();
    let mut listed: Vec<String> = vec!["kustomization.yaml".into()];
    for file in list["resources"].as_array().expect("a list") {
        let file = file.as_str().expect("a file");
        listed.push(file.to_owned());
        for document in Yaml::load_from_str(&read(&format!("kubernetes/{file}"))).expect("YAML") {
            let document = json(&document);
            let text = |value: &Value| value.as_str().expect("every manifest has it").to_owned();
            assert!(document["apiVersion"].is_string(), "{file}");
            all.insert((text(&document["kind"]), text(&document["metadata"]["name"])), document);
        }
    }
    let mut there: Vec<String> = fs::read_dir(deploy("kubernetes"))
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    there.sort();
    listed.sort();
    assert_eq!(there, listed, "the kustomization lists what is there");
    all
}

fn find<'a>(all: &'a BTreeMap<(String, String), Value>, kind: &str, name: &str) -> &'a Value {
    all.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("there is a {kind} {name}"))
}

/// A folder with a cluster secret.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("activitystreamer-{test}-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder for the test");
        fs::write(folder.join("cluster.secret"), "0123456789abcdef0123456789abcdef").expect("a file");
        Folder(folder)
    }

    fn secret(&self) -> String {
        self.0.join("cluster.secret").to_str().expect("a path in text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `server` says with these flags and variables.
fn server(args: &[&str], variables: &[(String, String)]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().envs(variables.iter().cloned());
    command.output().expect("the program runs")
}

/// The settings that hold with these flags and variables, which must be good.
fn settings(args: &[&str], variables: &[(String, String)]) -> BTreeMap<String, String> {
    let check = server(&[args, &["--check-config"]].concat(), variables);
    assert!(check.status.success(), "{args:?} {variables:?}: {}", String::from_utf8_lossy(&check.stderr));
    let printed = server(&[args, &["--print-config"]].concat(), variables);
    let text = String::from_utf8(printed.stdout).expect("text");
    let settings = text.lines().filter_map(|line| line.split("  # ").next()?.split_once(" = "));
    settings.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The program starts no servers where something else does.
fn spawns_nothing(settings: &BTreeMap<String, String>) {
    assert_eq!(settings.get("spawn").map(String::as_str), Some("off"), "say so in deploy/kubernetes");
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("seconds, not {text:?}"))
}

fn port(address: &str) -> u64 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
}

#[test]
fn the_unit_and_its_settings_are_good() {
    let unit = read("systemd/activitystreamer.service");
    let lines = |key: &str| -> Vec<&str> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    };
    let start = lines("ExecStart")[0];
    let words: Vec<&str> = start.split(' ').collect();
    assert!(words[0].ends_with("/activitystreamer") && words[1..3] == ["server", "--config"], "{start}");
    let folder = Folder::new("unit");
    let file = deploy("systemd/server.toml");
    let secret = ("AS_SECRET_FILE".to_owned(), folder.secret());
    let name = lines("Environment")[0].split('=').next();
    assert_eq!(name, Some(&*secret.0), "the unit says where the credential is");
    let credential = lines("LoadCredential")[0].split(':').next().expect("a name");
    assert_eq!(lines("Environment")[0], format!("{}=%d/{credential}", secret.0));
    let settings = settings(&["server", "--config", file.to_str().expect("a path")], &[secret]);
    assert_eq!(seconds(lines("TimeoutStopSec")[0]), seconds(&settings["drain"]) + REST_S);
    assert_eq!(settings["data-dir"], format!("/var/lib/{}", lines("StateDirectory")[0]));
    assert_eq!((lines("Type"), lines("KillSignal")), (vec!["notify"], vec!["SIGTERM"]));
    for hardened in
        ["NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes", "CapabilityBoundingSet="]
    {
        assert!(unit.lines().any(|line| line == hardened), "{hardened}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = Folder::new("verify");
    let unit = folder.0.join("activitystreamer.service");
    let text = read("systemd/activitystreamer.service").replace("/usr/local/bin/activitystreamer", BINARY);
    fs::write(&unit, text).expect("a file");
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let Ok(verify) = verify else { return println!("skipped: there is no systemd-analyze here") };
    let told = String::from_utf8_lossy(&verify.stderr);
    if told.contains("Failed to initialize manager")
        || told.contains("No such file or directory: /run/systemd")
    {
        return println!("skipped: systemd-analyze does not work here: {told}");
    }
    assert!(verify.status.success() && !told.contains("activitystreamer.service"), "{told}");
}

#[test]
fn the_image_is_one_static_program_run_as_nobody() {
    let text = read("docker/Dockerfile").replace("\\\n", " ");
    let lines = |key: &str| -> Vec<&str> {
        let prefix = format!("{key} ");
        text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::trim).collect()
    };
    let stages = lines("FROM");
    assert_eq!(stages.last(), Some(&"scratch"));
    let manifest = fs::read_to_string(deploy("../Cargo.toml")).expect("it is there");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(stages[0].starts_with(&format!("rust:{}-alpine", version.trim_matches('"'))), "{}", stages[0]);
    let user = lines("USER")[0];
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 1000)), "{user}");
    let list = |text: &str| -> Vec<String> { serde_json::from_str(text).expect("a list of words") };
    let health = lines("HEALTHCHECK")[0];
    let probe = list(&health[health.find('[').expect("a list")..]);
    let start = [list(lines("ENTRYPOINT")[0]), list(lines("CMD")[0])].concat();
    let copied = lines("COPY").iter().any(|copy| copy.ends_with(&start[0]));
    assert!(copied && probe[0] == start[0], "the program that runs is the one that was copied");
    let env = lines("ENV").join(" ");
    let pairs = env.split(' ').map(|pair| pair.split_once('=').expect("a value"));
    let variables: Vec<(String, String)> = pairs.map(|(name, text)| (name.into(), text.into())).collect();
    let args: Vec<&str> = start[1..].iter().map(String::as_str).collect();
    let settings = settings(&args, &variables);
    let exposed: Vec<u64> = lines("EXPOSE")[0].split(' ').map(|port| port.parse().expect("a port")).collect();
    assert_eq!(exposed, [settings["local-port"].parse().expect("a port"), port(&settings["http"])]);
    assert_eq!(settings["data-dir"], lines("VOLUME")[0]);
    assert_eq!(port(&settings["http"]), port(&probe[2]), "the probe asks where the pages are");
    // `docker stop` kills after ten seconds.
    assert!(seconds(&settings["drain"]) + REST_S <= 10);
    // The probe's own flags are good: nobody is there, which is another failure than wrong flags.
    let words: Vec<&str> = probe[1..]
        .iter()
        .map(String::as_str)
        .map(|w| if w.contains(':') { "127.0.0.1:1" } else { w })
        .collect();
    assert_eq!(server(&words, &[]).status.code(), Some(1));
}

#[test]
fn the_manifests_fit_the_program_and_each_other() {
    let all = manifests();
    let set = find(&all, "StatefulSet", "activitystreamer");
    let (spec, pod) = (&set["spec"], &set["spec"]["template"]);
    let labels = &pod["metadata"]["labels"];
    let server = &pod["spec"]["containers"][0];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned();

    // Whoever selects servers selects these.
    let services = all
        .iter()
        .filter(|((kind, _), _)| kind == "Service")
        .map(|(_, service)| &service["spec"]["selector"]);
    let budget = &find(&all, "PodDisruptionBudget", "activitystreamer")["spec"]["selector"]["matchLabels"];
    for selector in services.chain([&spec["selector"]["matchLabels"], budget]) {
        for (key, value) in selector.as_object().expect("labels") {
            assert_eq!(&labels[key], value, "{key}");
        }
    }
    let headless = find(&all, "Service", &text(&spec["serviceName"]));
    assert_eq!(
        (&headless["spec"]["clusterIP"], &headless["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );

    // The settings are good, and ports and paths are theirs.
    let folder = Folder::new("manifests");
    let env = server["env"].as_array().expect("a list");
    let mut variables: Vec<(String, String)> = Vec::new();
    for variable in env.iter().filter(|variable| variable["value"].is_string()) {
        variables.push((
            text(&variable["name"]),
            text(&variable["value"]).replace("$(POD_NAME)", "activitystreamer-0"),
        ));
    }
    let secret = variables.iter_mut().find(|(name, _)| name == "AS_SECRET_FILE").expect("it has a secret");
    let secret_path = std::mem::replace(&mut secret.1, folder.secret());
    let args: Vec<String> = server["args"].as_array().expect("flags").iter().map(text).collect();
    let settings = settings(&args.iter().map(String::as_str).collect::<Vec<_>>(), &variables);
    spawns_nothing(&settings);
    let home = &settings["local-host"];
    assert_eq!(
        home,
        &format!("activitystreamer-0.{}", text(&headless["metadata"]["name"])),
        "its name is found"
    );
    assert_eq!(&settings["remote-host"], home, "the first server is the one that all meet");
    let ports: BTreeMap<String, u64> = server["ports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| (text(&port["name"]), port["containerPort"].as_u64().expect("a port")))
        .collect();
    assert_eq!(ports["clients"].to_string(), settings["local-port"]);
    assert_eq!(ports["clients"].to_string(), settings["remote-port"]);
    assert_eq!(ports["http"], port(&settings["http"]));
    for ((_, name), service) in all.iter().filter(|((kind, _), _)| kind == "Service") {
        for port in service["spec"]["ports"].as_array().expect("a list") {
            assert_eq!(port["port"].as_u64(), ports.get(&text(&port["targetPort"])).copied(), "{name}");
        }
    }
    let mounts: BTreeMap<String, String> = server["volumeMounts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|mount| (text(&mount["mountPath"]), text(&mount["name"])))
        .collect();
    assert_eq!(mounts[&settings["data-dir"]], text(&spec["volumeClaimTemplates"][0]["metadata"]["name"]));
    let (secret_folder, _) = secret_path.rsplit_once('/').expect("a path");
    assert_eq!(mounts[secret_folder], text(&pod["spec"]["volumes"][0]["name"]));
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(text(&annotations["prometheus.io/port"]), ports["http"].to_string());
    assert_eq!(annotations["prometheus.io/path"], "/metrics");
    for (probe, path) in
        [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz"), ("startupProbe", "/healthz")]
    {
        assert_eq!(server[probe]["httpGet"], json!({ "path": path, "port": "http" }));
    }

    // It is given the time it takes, and nothing it does not need.
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    let before = server["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("seconds");
    assert!(grace >= before + seconds(&settings["drain"]) + REST_S);
    let security = &server["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    let image = format!("activitystreamer:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(server["image"], image);

    // The autoscaler grows this set by a metric there is, and no further than a network can.
    let scaler = &find(&all, "HorizontalPodAutoscaler", "activitystreamer")["spec"];
    assert_eq!(
        (&scaler["scaleTargetRef"]["kind"], &scaler["scaleTargetRef"]["name"]),
        (&set["kind"], &set["metadata"]["name"])
    );
    assert_eq!(scaler["minReplicas"], spec["replicas"]);
    assert!(scaler["maxReplicas"].as_u64() <= Some(activitystreamer::base::limits::SERVERS_MAX as u64));
    let metric = text(&scaler["metrics"][0]["pods"]["metric"]["name"]);
    let node = activitystreamer::node::Node::new(
        activitystreamer::base::limits::Limits::default(),
        &activitystreamer::node::Seeds::fixed(1),
    );
    let page = activitystreamer::server::metrics::text(
        &node,
        &node.status(&Default::default()),
        &Default::default(),
    );
    assert!(page.contains(&format!("\n{metric} 0\n")), "{metric} is a metric");
}

#[test]
fn kubectl_builds_the_manifests() {
    let built = Command::new("kubectl").arg("kustomize").arg(deploy("kubernetes")).output();
    let Ok(built) = built else { return println!("skipped: there is no kubectl here") };
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&built.stdout).contains("kind: StatefulSet"));
}
