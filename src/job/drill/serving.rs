//! The drills of the ingestion service and its keys: on doubles of both, made for the drill and removed with it.

use serde_json::{Value, json};

use super::super::backup::count;
use super::super::rotation::{self, last};
use super::super::run::Undo;
use super::super::{Context, JobError, run, validate};
use super::Subject;
use super::evidence::Findings;
use crate::config::Service;
use crate::model::{Failure, Secret};
use crate::plan::compare::{State, judge};
use crate::plan::drill::checklist::Point;
use crate::plan::drill::{Double, Scenario};
use crate::plan::queries;
use crate::saga::{Done, Saga};

pub(super) struct Work<'a> {
    pub context: &'a Context,
    pub subject: &'a Subject,
    pub id: &'a str,
}

impl Work<'_> {
    pub async fn steps(&self, saga: &mut Saga<'_>, findings: &mut Findings) -> Result<(), JobError> {
        let plan = &self.subject.plan;
        saga.step("scratch", self.scratch()).await?;
        let service = self.context.config.service.as_ref().zip(plan.service.as_ref());
        match (plan.scenario, &plan.secret) {
            (Scenario::KeyCompromise, Some(secret)) => {
                let stolen = saga.step("setup_secret", self.setup_secret(secret)).await?;
                if let Some((_, double)) = service {
                    saga.step("setup_service", self.setup_service(double)).await?;
                }
                saga.step("rotate", self.rotate(secret, &stolen)).await?;
                saga.step("revoke", self.revoke(secret)).await?;
                if let Some((settings, double)) = service {
                    saga.step("restart", self.redeploy(double)).await?;
                    self.prove(saga, (settings, double), findings).await?;
                }
                let (passed, seen) = saga.step("secrets", self.secrets()).await?;
                findings.evidence.add(Point::Secrets, passed, seen);
                if let Some(seen) = saga.step("anomalies", self.anomalies()).await? {
                    findings.evidence.look(Point::Access, seen);
                }
            }
            _ => {
                let (settings, double) = service.ok_or_else(no_service)?;
                saga.step("describe", self.describe(double)).await?;
                saga.step("setup_service", self.setup_service(double)).await?;
                saga.step("deploy", self.redeploy(double)).await?;
                self.prove(saga, (settings, double), findings).await?;
            }
        }
        saga.step("teardown", self.teardown()).await?;
        Ok(())
    }

    /// Asks the double for its health, and calls it without effect.
    async fn prove(
        &self,
        saga: &mut Saga<'_>,
        (settings, double): (&Service, &Double),
        findings: &mut Findings,
    ) -> Result<(), JobError> {
        let (status, seen) = saga.step("health", self.call(settings, double, &settings.health, None)).await?;
        findings.evidence.add(Point::Health, status == 200, format!("GET {}: {seen}", settings.health));
        if let Some(path) = &settings.dry_run {
            let body = Some(settings.dry_run_body.as_str());
            let (status, seen) = saga.step("dry_run", self.call(settings, double, path, body)).await?;
            findings.evidence.add(Point::Pipeline, status == 200, format!("POST {path} without effect: {seen}"));
        }
        Ok(())
    }

    fn doubles(&self) -> (Option<String>, Option<String>) {
        let name = |double: &Option<Double>| double.as_ref().map(|double| double.scratch.clone());
        (name(&self.subject.plan.service), name(&self.subject.plan.secret))
    }

    /// Journals what is to be removed, before any of it is made.
    async fn scratch(&self) -> Result<Done<()>, JobError> {
        let (service, secret) = self.doubles();
        let note = service.iter().chain(&secret).cloned().collect::<Vec<_>>().join(", ");
        Ok(Done::new(()).undo(Undo::DropDoubles { service, secret }.to_value()).note(note))
    }

    async fn teardown(&self) -> Result<Done<()>, JobError> {
        let (service, secret) = self.doubles();
        run::drop_doubles(self.context, self.id, service.as_deref(), secret.as_deref()).await?;
        Ok(Done::new(()).discharges("scratch").note("doubles removed"))
    }

    /// Looks at the real service, as the first minute of a failure would.
    async fn describe(&self, double: &Double) -> Result<Done<()>, JobError> {
        let service = self.context.google.run.get_service(&double.original).await?;
        let text = |pointer: &str| service.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_string();
        let ready = text("/terminalCondition/state");
        let image = text("/template/containers/0/image");
        Ok(Done::new(()).note(format!(
            "{}: {ready}, {}, image {image}",
            double.original,
            last(&text("/latestReadyRevision"))
        )))
    }

    /// Deploys the double from the real service's own description; it uses the double of the key where there is one.
    async fn setup_service(&self, double: &Double) -> Result<Done<()>, JobError> {
        let original = self.context.google.run.get_service(&double.original).await?;
        let mut template = original["template"].clone();
        if let Some(fields) = template.as_object_mut() {
            fields.remove("revision"); // a revision's name cannot be taken twice
        }
        if let Some(secret) = &self.subject.plan.secret {
            let (old, new) = (last(&secret.original), last(&secret.scratch));
            for container in template["containers"].as_array_mut().into_iter().flatten() {
                for variable in container["env"].as_array_mut().into_iter().flatten() {
                    let Some(key) = variable.pointer_mut("/valueSource/secretKeyRef/secret") else { continue };
                    if key.as_str().map(last) == Some(old) {
                        *key = json!(new);
                    }
                }
            }
        }
        let labels = json!({"managed-by": "strongroom", "strongroom-drill": "yes"});
        let resource = json!({"template": template, "labels": labels, "ingress": original["ingress"]});
        self.context.google.run.create_service(&double.scratch, resource).await?;
        Ok(Done::new(()).note(format!("{} deployed from {}", last(&double.scratch), last(&double.original))))
    }

    async fn redeploy(&self, double: &Double) -> Result<Done<()>, JobError> {
        Ok(rotation::redeploy(self.context, &double.scratch).await?.map(drop))
    }

    async fn call(
        &self,
        settings: &Service,
        double: &Double,
        path: &str,
        body: Option<&str>,
    ) -> Result<Done<(u16, String)>, JobError> {
        let run = &self.context.google.run;
        let service = run.get_service(&double.scratch).await?;
        let (status, answer) = run.call_service(&service, path, body, settings.caller.as_deref()).await?;
        let seen = if status == 200 {
            "status 200".to_string()
        } else {
            format!("status {status}: {}", answer.chars().take(200).collect::<String>())
        };
        Ok(Done::new((status, seen.clone())).note(seen))
    }

    async fn setup_secret(&self, double: &Double) -> Result<Done<Secret>, JobError> {
        let secrets = &self.context.google.secrets;
        // The real secret must be there; its payload is nobody's business.
        let versions = secrets.versions(&double.original).await?;
        let labels = json!({"managed-by": "strongroom", "strongroom-drill": "yes"});
        secrets.create(&double.scratch, labels).await?;
        let stolen = Secret::new((self.context.nonce)());
        secrets.add_version(&double.scratch, &stolen).await?;
        let note = format!("double of {} ({})", last(&double.original), count(versions.len(), "version"));
        Ok(Done::new(stolen).note(note))
    }

    async fn rotate(&self, double: &Double, stolen: &Secret) -> Result<Done<()>, JobError> {
        let replacement = Secret::new((self.context.nonce)());
        let rotated = rotation::rotate(self.context, &double.scratch, &replacement).await?;
        if self.context.google.secrets.access(&format!("{}/versions/latest", double.scratch)).await? == *stolen {
            let message = "the latest version is the stolen one".into();
            return Err(Failure::Corrupt { object: double.scratch.clone(), message }.into());
        }
        Ok(rotated.map(drop))
    }

    async fn revoke(&self, double: &Double) -> Result<Done<()>, JobError> {
        Ok(rotation::revoke(self.context, &double.scratch).await?.map(drop))
    }

    /// Every secret of the configuration is there with a version that can be used.
    async fn secrets(&self) -> Result<Done<(bool, String)>, JobError> {
        let names = &self.context.config.secrets;
        let mut lacking = Vec::new();
        for name in names {
            match self.context.google.secrets.versions(name).await {
                Ok(versions) if versions.first().is_some_and(|version| version.state == "ENABLED") => {}
                Ok(_) => lacking.push(format!("{} has no usable newest version", last(name))),
                Err(Failure::NotFound { .. }) => lacking.push(format!("{} is not there", last(name))),
                Err(error) => return Err(error.into()),
            }
        }
        let seen = match lacking.is_empty() {
            true => format!("{} with a usable newest version", count(names.len(), "secret")),
            false => lacking.join(", "),
        };
        Ok(Done::new((lacking.is_empty(), seen.clone())).note(seen))
    }

    /// Searches the usage for what a stolen key would do. What is unusual is for a person to judge.
    async fn anomalies(&self) -> Result<Done<Option<String>>, JobError> {
        let source = self.context.bigquery_sources().next();
        let (Some(query), Some((_, source))) = (&self.context.anomalies, source) else {
            return Ok(Done::new(None).note("no query is configured (drill.anomalies)"));
        };
        let dataset = &source.dataset;
        let resource = self.context.google.bigquery.get_dataset(dataset).await?;
        let location = resource["location"].as_str().unwrap_or_default();
        let sql = queries::on_dataset(&query.sql, dataset);
        let found = validate::run_query(self.context, dataset.project(), location, query, &sql).await?;
        let verdict = judge(query, None, &found, self.context.now());
        let seen = match verdict.state {
            State::Passed => format!("nothing unusual in {dataset}"),
            _ => format!("look at this: {}", verdict.findings.join("; ")),
        };
        Ok(Done::new(Some(seen.clone())).note(seen))
    }
}

fn no_service() -> Failure {
    Failure::Invalid { object: "service".into(), message: "is not configured".into() }
}
