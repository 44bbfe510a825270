//! What the server answers; rmcp calls this for every vetted request.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::ServerHandler;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    CustomRequest, CustomResult, DiscoverResult, ErrorCode, ErrorData, GetPromptRequestParams, GetPromptResponse,
    GetSkillRequestParams, GetSkillResult, Implementation, InitializeRequestParams, InitializeResult,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceDirectoryRequestParams, ReadResourceDirectoryResult,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{CallToolResultFailure, failure};
use super::resources::CONSTANT_TTL_MS;
use super::tools::{self, Entry};
use super::work::{Interrupted, Work};
use super::{arguments, completions, prompts, resources, skills};
use crate::engine::{Engine, Watch};

/// Read once per conversation; some clients cut at 2 KB.
const INSTRUCTIONS: &str = "Local image search and classification with CLIP that knows CLIP's limits. Images never leave \
this machine.\n\
Order: index_folder once per folder, and again after files changed; then clip_search. classify_image needs no index.\n\
Paths lie inside the allowed folders; relative ones start at the first of them. An error names the next step in its hint.\n\
Relevance runs from 0 to 1 and is calibrated: below the cut-off nothing is returned, and no result means that nothing fits. \
Score is the bare cosine; compare it only within one search.\n\
CLIP finds what images show. It cannot count, tell left from right, keep apart which attribute belongs to which object, \
understand \"not\", read text, or tell fine species, models or individuals apart. When advice says clip_suitable: false, \
follow its note and do not present the ranking as an answer; explain_limitation says why, shows it on an image, and \
diagnoses a wrong or missing hit.\n\
Results are compact; ask for thumbnails only when you need to look. The resource clip-aware://index/status says what is \
indexed; clip-aware://references/alternatives says what to use where CLIP fails; hf://model/{owner}/{name} reads a model's card.";

/// The methods that are served; their malformed requests are answered with -32602.
const METHODS: [&str; 14] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/directory/read",
    "skills/list",
    "skills/get",
    "prompts/list",
    "prompts/get",
    "completion/complete",
];

/// Whether a method is served here.
pub(super) fn is_known_method(method: &str) -> bool {
    METHODS.contains(&method)
}

/// One server for one client.
#[derive(Debug)]
pub(super) struct Server {
    engine: Arc<Engine>,
    tools: Vec<Arc<Entry>>,
    work: Work,
}

impl Server {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self::with_tools(engine, tools::all())
    }

    pub(super) fn with_tools(engine: Arc<Engine>, tools: Vec<Entry>) -> Self {
        Self { engine, tools: tools.into_iter().map(Arc::new).collect(), work: Work::new() }
    }

    /// The queue of the running work.
    pub(super) fn work(&self) -> Work {
        self.work.clone()
    }

    /// Runs something short that touches the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, ErrorData> + Send + 'static,
    ) -> Result<T, ErrorData> {
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || read(&engine)).await;
        done.unwrap_or_else(|_panic| Err(ErrorData::internal_error("internal error; the server's log says more", None)))
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(entry) = self.tools.iter().find(|entry| entry.tool.name == request.name) else {
            let known: Vec<_> = self.tools.iter().map(|entry| &entry.tool.name).collect();
            return Err(ErrorData::invalid_params("unknown tool", Some(json!({ "tools": known }))));
        };
        let arguments = match arguments::check(&entry.tool.name, &entry.tool.input_schema, request.arguments) {
            Ok(arguments) => arguments,
            Err(fault) => return Ok(CallToolResultFailure::from(&fault).0),
        };
        let job = {
            let (entry, engine) = (Arc::clone(entry), Arc::clone(&self.engine));
            move |watch: &Watch<'_>| entry.run(&engine, arguments, watch)
        };
        // Links came with 2025-06-18; clients from before reject content of a kind they do not know.
        let with_links = context.protocol_version().is_none_or(|version| version >= ProtocolVersion::V_2025_06_18);
        Ok(match self.work.run(entry.lane, context, job).await {
            Ok(Ok(answer)) => answer.into_result(with_links),
            Ok(Err(error)) => {
                tracing::info!("{}: {error}", entry.tool.name);
                CallToolResultFailure::from(&error).0
            }
            Err(Interrupted::Cancelled) => failure("cancelled", None),
            Err(Interrupted::Panicked) => {
                failure("internal error", Some("the server's log says more; other calls still work"))
            }
        })
    }
}

/// Whether the request speaks 2026-07-28, whose results carry cache hints.
fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .enable_skills_with_directory_read()
            .build();
        let implementation = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .with_title("clip-aware")
            .with_description(env!("CARGO_PKG_DESCRIPTION"));
        InitializeResult::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    async fn initialize(
        &self,
        mut request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let answer = self.negotiate_initialize(&request)?;
        // Later answers are shaped for the version that was agreed on, not for the one that was asked for.
        request.protocol_version = answer.protocol_version.clone();
        context.peer.set_peer_info(request);
        Ok(answer)
    }

    async fn discover(&self, _context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info())
            .with_ttl_ms(CONSTANT_TTL_MS)
            .with_cache_scope(CacheScope::Public))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult::with_all_items(self.tools.iter().map(|entry| entry.tool.clone()).collect());
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(self.call(request, &context).await?.into())
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let list = ListResourcesResult::with_all_items(resources::list());
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let list = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let hint = resources::cache_hint(&request.uri).filter(|_| is_modern(&context));
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancel);
        let mut reading = pin!(self.read(move |engine| resources::read(engine, &request.uri, &flag)));
        let contents = tokio::select! {
            contents = &mut reading => contents?,
            () = context.ct.cancelled() => {
                cancel.store(true, Ordering::Relaxed);
                reading.await?
            }
        };
        let mut result = ReadResourceResult::new(vec![contents]);
        if let Some((ttl_ms, scope)) = hint {
            result = result.with_ttl_ms(ttl_ms).with_cache_scope(scope);
        }
        Ok(result.into())
    }

    async fn list_skills(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, ErrorData> {
        let list = skills::list();
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, ErrorData> {
        let skill = skills::get(&request.uri)?;
        Ok(if is_modern(&context) {
            skill.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            skill
        })
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceDirectoryResult, ErrorData> {
        let list = skills::read_directory(&request.uri)?;
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list = ListPromptsResult::with_all_items(prompts::list());
        Ok(if is_modern(&context) {
            list.with_ttl_ms(CONSTANT_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            list
        })
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Ok(prompts::get(&request.name, request.arguments.as_ref(), &self.tools)?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let info = self.read(move |engine| completions::complete(engine, &request)).await?;
        Ok(CompleteResult::new(info))
    }

    /// Everything that rmcp could not decode as a request it knows lands here.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(if is_known_method(&request.method) {
            ErrorData::invalid_params(decoding_fault(&request.method, request.params), None)
        } else {
            ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "unknown method", None)
        })
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }
}

/// Why the params of a known method could not be decoded.
fn decoding_fault(method: &str, params: Option<Value>) -> String {
    fn fault<T: DeserializeOwned>(params: Value) -> Option<String> {
        serde_json::from_value::<T>(params).err().map(|error| error.to_string())
    }
    let params = match params {
        Some(params @ Value::Object(_)) => params,
        Some(_) => return "`params` must be an object".into(),
        None => Value::Object(serde_json::Map::new()),
    };
    let fault = match method {
        "initialize" => fault::<InitializeRequestParams>(params),
        "tools/call" => fault::<CallToolRequestParams>(params),
        "resources/read" => fault::<ReadResourceRequestParams>(params),
        "resources/directory/read" => fault::<ReadResourceDirectoryRequestParams>(params),
        "skills/get" => fault::<GetSkillRequestParams>(params),
        "prompts/get" => fault::<GetPromptRequestParams>(params),
        "completion/complete" => fault::<CompleteRequestParams>(params),
        _ => None,
    };
    format!("invalid params of {method}: {}", fault.unwrap_or_else(|| "they do not fit the protocol's schema".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_fit_into_what_clients_keep() {
        assert!(INSTRUCTIONS.len() < 2048, "{}", INSTRUCTIONS.len());
    }

    #[test]
    fn decoding_faults_name_the_field() {
        let cases = [
            ("tools/call", Some(json!([1])), "`params` must be an object"),
            ("tools/call", None, "missing field `name`"),
            ("tools/call", Some(json!({"name": "x", "arguments": []})), "invalid type: sequence"),
            ("resources/read", Some(json!({})), "missing field `uri`"),
            ("initialize", Some(json!({"capabilities": {}})), "missing field `protocolVersion`"),
        ];
        for (method, params, words) in cases {
            let fault = decoding_fault(method, params);
            assert!(fault.contains(words), "{method}: {fault}");
        }
    }
}
