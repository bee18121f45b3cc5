-- Schema 4 as it was released, with a project, an account and what belongs to them. It is never changed: a store like this has to come up to date.
BEGIN TRANSACTION;
CREATE TABLE accounts (
	id VARCHAR(32) NOT NULL, 
	annotator_id VARCHAR(32) NOT NULL, 
	login TEXT NOT NULL, 
	display_name TEXT, 
	password_hash TEXT, 
	role VARCHAR(16) DEFAULT 'annotator' NOT NULL, 
	state VARCHAR(16) DEFAULT 'active' NOT NULL, 
	external_id TEXT, 
	created DOUBLE NOT NULL, 
	guidelines_seen TEXT, 
	CONSTRAINT pk_accounts PRIMARY KEY (id), 
	CONSTRAINT fk_accounts_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT uq_accounts_login UNIQUE (login), 
	CONSTRAINT ck_accounts_state_is_known CHECK (state IN ('active', 'paused', 'removed')), 
	CONSTRAINT uq_accounts_annotator_id UNIQUE (annotator_id), 
	CONSTRAINT ck_accounts_role_is_known CHECK (role IN ('owner', 'manager', 'adjudicator', 'annotator', 'viewer', 'service'))
);
INSERT INTO "accounts" VALUES('acc1','8aeb26281b2bd4984f3ab42454c5f77f','ann','Ann','$argon2id$x','annotator','active','worker-7',1500000000.0,'{"safety":"v1"}');
CREATE TABLE annotators (
	id VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	name TEXT, 
	fingerprint TEXT, 
	role VARCHAR(16) DEFAULT 'annotator' NOT NULL, 
	CONSTRAINT pk_annotators PRIMARY KEY (id), 
	CONSTRAINT ck_annotators_kind_is_known CHECK (kind IN ('human', 'llm', 'principle', 'rule', 'reward_model', 'simulated', 'unknown')), 
	CONSTRAINT ck_annotators_role_is_known CHECK (role IN ('judge', 'annotator', 'adjudicator', 'manager', 'owner'))
);
INSERT INTO "annotators" VALUES('2d34db4a0b6858e2bf732a1fca0c2c12','llm','judge','f00d','annotator');
INSERT INTO "annotators" VALUES('8aeb26281b2bd4984f3ab42454c5f77f','human','ann',NULL,'annotator');
CREATE TABLE api_tokens (
	token_hash VARCHAR(64) NOT NULL, 
	account_id VARCHAR(32) NOT NULL, 
	name TEXT NOT NULL, 
	scopes TEXT NOT NULL, 
	created DOUBLE NOT NULL, 
	expires DOUBLE, 
	last_used DOUBLE, 
	revoked BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_api_tokens PRIMARY KEY (token_hash), 
	CONSTRAINT fk_api_tokens_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
INSERT INTO "api_tokens" VALUES('efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef','acc1','ci','["claim"]',1500000000.0,NULL,NULL,0);
CREATE TABLE events (
	id VARCHAR(32) NOT NULL, 
	at DOUBLE NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	before_hash TEXT, 
	after_hash TEXT, 
	detail TEXT, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES('631efa671f96abf1c0d6141117aba75b',1.79617510232494950296e+09,'guerdon','import','',NULL,NULL,'{"annotators":2,"items":1,"judge_calls":1,"judgments":4,"labels":1,"prompts":1,"responses":2}');
CREATE TABLE gold_answers (
	item_id VARCHAR(32) NOT NULL, 
	groups TEXT NOT NULL, 
	strength DOUBLE, 
	set_by TEXT, 
	at DOUBLE NOT NULL, 
	CONSTRAINT pk_gold_answers PRIMARY KEY (item_id), 
	CONSTRAINT fk_gold_answers_item_id FOREIGN KEY(item_id) REFERENCES items (id)
);
INSERT INTO "gold_answers" VALUES('de31089609af235946779b62c29f3869','[[0],[1]]',2.0,'ann',1500000000.0);
CREATE TABLE guerdon_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT guerdon_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "guerdon_schema" VALUES('4');
CREATE TABLE invites (
	token_hash VARCHAR(64) NOT NULL, 
	role VARCHAR(16) DEFAULT 'annotator' NOT NULL, 
	project TEXT, 
	external_id TEXT, 
	created_by VARCHAR(32), 
	created DOUBLE NOT NULL, 
	expires DOUBLE NOT NULL, 
	used_by VARCHAR(32), 
	used_at DOUBLE, 
	CONSTRAINT pk_invites PRIMARY KEY (token_hash), 
	CONSTRAINT fk_invites_used_by FOREIGN KEY(used_by) REFERENCES accounts (id), 
	CONSTRAINT fk_invites_project FOREIGN KEY(project) REFERENCES projects (name), 
	CONSTRAINT fk_invites_created_by FOREIGN KEY(created_by) REFERENCES accounts (id), 
	CONSTRAINT ck_invites_used_by_somebody_at_a_time CHECK ((used_by IS NULL) = (used_at IS NULL)), 
	CONSTRAINT ck_invites_role_is_known CHECK (role IN ('owner', 'manager', 'adjudicator', 'annotator', 'viewer', 'service'))
);
INSERT INTO "invites" VALUES('cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','annotator','safety é',NULL,'acc1',1500000000.0,1600000000.0,NULL,NULL);
CREATE TABLE item_responses (
	item_id VARCHAR(32) NOT NULL, 
	position INTEGER NOT NULL, 
	response_id VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_item_responses PRIMARY KEY (item_id, position), 
	CONSTRAINT ck_item_responses_position_is_not_negative CHECK (position >= 0), 
	CONSTRAINT fk_item_responses_item_id FOREIGN KEY(item_id) REFERENCES items (id), 
	CONSTRAINT fk_item_responses_response_id FOREIGN KEY(response_id) REFERENCES responses (id)
)
 WITHOUT ROWID

;
INSERT INTO "item_responses" VALUES('de31089609af235946779b62c29f3869',0,'0d1e93e43bd420d1cc29036664d03d5c');
INSERT INTO "item_responses" VALUES('de31089609af235946779b62c29f3869',1,'78eded39f378898a19023eedfdfa8ce2');
CREATE TABLE items (
	id VARCHAR(32) NOT NULL, 
	project TEXT NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	purpose VARCHAR(16) DEFAULT 'task' NOT NULL, 
	need INTEGER DEFAULT 1 NOT NULL, 
	taken INTEGER DEFAULT 0 NOT NULL, 
	status VARCHAR(16) DEFAULT 'open' NOT NULL, 
	priority INTEGER DEFAULT 0 NOT NULL, 
	ord INTEGER DEFAULT 0 NOT NULL, 
	selection TEXT, 
	CONSTRAINT pk_items PRIMARY KEY (id), 
	CONSTRAINT ck_items_purpose_is_known CHECK (purpose IN ('task', 'gold', 'attention', 'repeat', 'training', 'calibration')), 
	CONSTRAINT ck_items_status_is_known CHECK (status IN ('open', 'complete', 'adjudicate', 'retired')), 
	CONSTRAINT ck_items_counts_are_not_negative CHECK (need >= 0 AND taken >= 0), 
	CONSTRAINT fk_items_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompts (id)
);
INSERT INTO "items" VALUES('de31089609af235946779b62c29f3869','','ab62f638b846df992c386f8c1fea370b','task',3,2,'open',0,0,NULL);
CREATE TABLE judge_calls (
	id VARCHAR(32) NOT NULL, 
	cache_key TEXT NOT NULL, 
	run_id TEXT, 
	model TEXT, 
	purpose VARCHAR(16) DEFAULT 'judge' NOT NULL, 
	item_id TEXT, 
	shown TEXT, 
	sample_ix INTEGER DEFAULT 0 NOT NULL, 
	request TEXT NOT NULL, 
	response_raw TEXT, 
	finish_reason TEXT, 
	status VARCHAR(16) NOT NULL, 
	failure_code VARCHAR(32), 
	failure_reason TEXT, 
	attempts TEXT, 
	tokens_in INTEGER, 
	tokens_cached INTEGER, 
	tokens_out INTEGER, 
	cost DOUBLE, 
	price_table TEXT, 
	latency_ms DOUBLE, 
	at DOUBLE, 
	CONSTRAINT pk_judge_calls PRIMARY KEY (id), 
	CONSTRAINT ck_judge_calls_failures_have_a_code CHECK ((status = 'failed') = (failure_code IS NOT NULL)), 
	CONSTRAINT ck_judge_calls_ok_calls_have_a_response CHECK (status <> 'ok' OR response_raw IS NOT NULL), 
	CONSTRAINT ck_judge_calls_status_is_known CHECK (status IN ('pending', 'failed', 'ok')), 
	CONSTRAINT uq_judge_calls_id_status UNIQUE (id, status)
);
INSERT INTO "judge_calls" VALUES('cccccccccccccccccccccccccccccccc','k','r',NULL,'judge','de31089609af235946779b62c29f3869','[0,1]',0,'{"messages":[]}','"A"',NULL,'ok',NULL,NULL,NULL,7,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "judge_calls" VALUES('f00d','key',NULL,NULL,'score',NULL,'[1]',0,'{"q":"é"}',NULL,NULL,'failed','timeout',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE judgments (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	presentation_id VARCHAR(32), 
	presentation_state VARCHAR(16), 
	call_id VARCHAR(32), 
	call_status VARCHAR(16), 
	annotator_id VARCHAR(32), 
	shown TEXT, 
	revision INTEGER DEFAULT 1 NOT NULL, 
	supersedes_revision INTEGER, 
	groups TEXT, 
	q DOUBLE, 
	strength DOUBLE, 
	votes TEXT, 
	all_bad BOOLEAN DEFAULT 0 NOT NULL, 
	acceptable_upto INTEGER, 
	axes TEXT, 
	rationale TEXT, 
	flags TEXT, 
	source TEXT, 
	group_id TEXT, 
	weight DOUBLE, 
	comparison_id TEXT, 
	active_ms DOUBLE, 
	wall_ms DOUBLE, 
	late BOOLEAN DEFAULT 0 NOT NULL, 
	submitted_at DOUBLE, 
	idem_key TEXT, 
	payload_hash TEXT, reasons TEXT, 
	CONSTRAINT pk_judgments PRIMARY KEY (id), 
	CONSTRAINT ck_judgments_call_was_ok CHECK ((call_id IS NULL AND call_status IS NULL) OR (call_id IS NOT NULL AND call_status IS NOT NULL AND call_status = 'ok')), 
	CONSTRAINT ck_judgments_presentation_was_submitted CHECK ((presentation_id IS NULL AND presentation_state IS NULL) OR (presentation_id IS NOT NULL AND presentation_state IS NOT NULL AND presentation_state = 'submitted')), 
	CONSTRAINT ck_judgments_has_one_preference CHECK ((groups IS NULL) <> (q IS NULL)), 
	CONSTRAINT ck_judgments_rests_on_a_presentation_or_a_call CHECK ((presentation_id IS NULL) <> (call_id IS NULL)), 
	CONSTRAINT ck_judgments_revisions_follow_each_other CHECK ((revision = 1 AND supersedes_revision IS NULL) OR (revision > 1 AND supersedes_revision IS NOT NULL AND supersedes_revision = revision - 1)), 
	CONSTRAINT ck_judgments_of_a_call_says_who_and_what_was_shown CHECK ((call_id IS NULL) = (annotator_id IS NULL) AND (call_id IS NULL) = (shown IS NULL)), 
	CONSTRAINT ck_judgments_q_is_a_probability CHECK (q IS NULL OR (q >= 0 AND q <= 1)), 
	CONSTRAINT fk_judgments_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT fk_judgments_call_id_call_status FOREIGN KEY(call_id, call_status) REFERENCES judge_calls (id, status), 
	CONSTRAINT fk_judgments_call_id_item_id_annotator_id_supersedes_revision FOREIGN KEY(call_id, item_id, annotator_id, supersedes_revision) REFERENCES judgments (call_id, item_id, annotator_id, revision), 
	CONSTRAINT fk_judgments_presentation_id_item_id_presentation_state FOREIGN KEY(presentation_id, item_id, presentation_state) REFERENCES presentations (id, item_id, state), 
	CONSTRAINT fk_judgments_presentation_id_supersedes_revision FOREIGN KEY(presentation_id, supersedes_revision) REFERENCES judgments (presentation_id, revision), 
	CONSTRAINT uq_judgments_call_id_item_id_annotator_id_revision UNIQUE (call_id, item_id, annotator_id, revision), 
	CONSTRAINT uq_judgments_presentation_id_revision UNIQUE (presentation_id, revision)
);
INSERT INTO "judgments" VALUES('d805e6284ae38b37cf0ea0c4b90fafc7','de31089609af235946779b62c29f3869','ab6acf229605023abcecdf680b1898e6','submitted',NULL,NULL,NULL,NULL,1,NULL,'[[0,1]]',NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL);
INSERT INTO "judgments" VALUES('e79993f81c4f684d922edc6ecb74f0bc','de31089609af235946779b62c29f3869',NULL,NULL,'cccccccccccccccccccccccccccccccc','ok','2d34db4a0b6858e2bf732a1fca0c2c12','[0,1]',1,NULL,NULL,0.75,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "judgments" VALUES('f38c751edab705156ed5e77ac4b690ef','de31089609af235946779b62c29f3869','pppppppppppppppppppppppppppppppp','submitted',NULL,NULL,NULL,NULL,1,NULL,'[[0],[1]]',NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO "judgments" VALUES('9281ae85c2d0ca643ab21d4056487127','de31089609af235946779b62c29f3869','pppppppppppppppppppppppppppppppp','submitted',NULL,NULL,NULL,NULL,2,1,NULL,0.0,NULL,NULL,0,NULL,NULL,NULL,'["unsafe"]',NULL,NULL,NULL,NULL,1.5,NULL,0,NULL,NULL,NULL,NULL);
CREATE TABLE labels (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	method TEXT NOT NULL, 
	params TEXT NOT NULL, 
	groups TEXT, 
	q DOUBLE, 
	strength DOUBLE, 
	votes TEXT, 
	n_votes INTEGER NOT NULL, 
	n_eff DOUBLE, 
	entropy DOUBLE, 
	status VARCHAR(16) DEFAULT 'accepted' NOT NULL, 
	CONSTRAINT pk_labels PRIMARY KEY (id), 
	CONSTRAINT ck_labels_status_is_known CHECK (status IN ('accepted', 'adjudicate', 'rejected')), 
	CONSTRAINT ck_labels_has_one_preference CHECK ((groups IS NULL) <> (q IS NULL)), 
	CONSTRAINT ck_labels_has_votes CHECK (n_votes >= 1), 
	CONSTRAINT ck_labels_q_is_a_probability CHECK (q IS NULL OR (q >= 0 AND q <= 1)), 
	CONSTRAINT fk_labels_item_id FOREIGN KEY(item_id) REFERENCES items (id)
);
INSERT INTO "labels" VALUES('2861dc10eb544e03bbac82e63ffc6db9','de31089609af235946779b62c29f3869','m','{"prior":2}',NULL,0.5,NULL,NULL,3,2.5,NULL,'adjudicate');
CREATE TABLE login_failures (
	"key" TEXT NOT NULL, 
	failures INTEGER DEFAULT 0 NOT NULL, 
	since DOUBLE NOT NULL, 
	blocked_until DOUBLE, 
	CONSTRAINT pk_login_failures PRIMARY KEY ("key")
);
INSERT INTO "login_failures" VALUES('ann',2,1500000000.0,NULL);
CREATE TABLE presentations (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	annotator_id VARCHAR(32) NOT NULL, 
	shown TEXT NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	slot INTEGER, 
	handles TEXT, 
	issued DOUBLE, 
	expires DOUBLE, 
	skip_reason TEXT, 
	ui_version TEXT, 
	guidelines_version TEXT, words INTEGER, 
	CONSTRAINT pk_presentations PRIMARY KEY (id), 
	CONSTRAINT ck_presentations_origin_is_known CHECK (origin IN ('claimed', 'imported')), 
	CONSTRAINT ck_presentations_state_is_known CHECK (state IN ('held', 'released', 'expired', 'skipped', 'submitted')), 
	CONSTRAINT fk_presentations_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT fk_presentations_item_id FOREIGN KEY(item_id) REFERENCES items (id), 
	CONSTRAINT uq_presentations_id_item_id_state UNIQUE (id, item_id, state)
);
INSERT INTO "presentations" VALUES('ab6acf229605023abcecdf680b1898e6','de31089609af235946779b62c29f3869','8aeb26281b2bd4984f3ab42454c5f77f','[0,1]','imported','submitted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "presentations" VALUES('pppppppppppppppppppppppppppppppp','de31089609af235946779b62c29f3869','8aeb26281b2bd4984f3ab42454c5f77f','[1,0]','claimed','submitted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,2);
CREATE TABLE project_counts (
	project TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	shard INTEGER NOT NULL, 
	n INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_project_counts PRIMARY KEY (project, "key", shard), 
	CONSTRAINT fk_project_counts_project FOREIGN KEY(project) REFERENCES projects (name)
);
INSERT INTO "project_counts" VALUES('safety é','judgments',0,1);
CREATE TABLE projects (
	name TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	options TEXT NOT NULL, 
	guidelines TEXT NOT NULL, 
	guidelines_version TEXT NOT NULL, 
	state VARCHAR(16) DEFAULT 'open' NOT NULL, 
	created DOUBLE NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (name), 
	CONSTRAINT ck_projects_state_is_known CHECK (state IN ('open', 'paused', 'closed'))
);
INSERT INTO "projects" VALUES('safety é','5ec7e7','{"verdict":"binary"}','# Guidelines\nBe fair.','v1','open',1500000000.0);
CREATE TABLE prompts (
	id VARCHAR(32) NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_prompts PRIMARY KEY (id)
);
INSERT INTO "prompts" VALUES('ab62f638b846df992c386f8c1fea370b','{"prompt":[{"content":"Q?","role":"user"}]}');
CREATE TABLE responses (
	id VARCHAR(32) NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_responses PRIMARY KEY (id), 
	CONSTRAINT fk_responses_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompts (id)
);
INSERT INTO "responses" VALUES('0d1e93e43bd420d1cc29036664d03d5c','ab62f638b846df992c386f8c1fea370b','{"text":"yes"}');
INSERT INTO "responses" VALUES('78eded39f378898a19023eedfdfa8ce2','ab62f638b846df992c386f8c1fea370b','{"text":"no"}');
CREATE TABLE sessions (
	token_hash VARCHAR(64) NOT NULL, 
	account_id VARCHAR(32) NOT NULL, 
	csrf TEXT NOT NULL, 
	created DOUBLE NOT NULL, 
	expires DOUBLE NOT NULL, 
	last_seen DOUBLE NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (token_hash), 
	CONSTRAINT fk_sessions_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
INSERT INTO "sessions" VALUES('abababababababababababababababababababababababababababababababab','acc1','csrf',1500000000.0,1600000000.0,1500000000.0);
CREATE TABLE summaries (
	project TEXT NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	at DOUBLE NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_summaries PRIMARY KEY (project, name), 
	CONSTRAINT fk_summaries_project FOREIGN KEY(project) REFERENCES projects (name)
);
INSERT INTO "summaries" VALUES('safety é','agreement',1500000000.0,'{"alpha":0.5}');
CREATE TABLE work_counts (
	project TEXT NOT NULL, 
	annotator_id VARCHAR(32) NOT NULL, 
	claimed INTEGER DEFAULT 0 NOT NULL, 
	submitted INTEGER DEFAULT 0 NOT NULL, 
	skipped INTEGER DEFAULT 0 NOT NULL, 
	late INTEGER DEFAULT 0 NOT NULL, 
	gold_seen INTEGER DEFAULT 0 NOT NULL, 
	gold_passed INTEGER DEFAULT 0 NOT NULL, 
	attention_seen INTEGER DEFAULT 0 NOT NULL, 
	attention_passed INTEGER DEFAULT 0 NOT NULL, 
	repeats_seen INTEGER DEFAULT 0 NOT NULL, 
	repeats_agreed INTEGER DEFAULT 0 NOT NULL, 
	fast INTEGER DEFAULT 0 NOT NULL, 
	first_side INTEGER DEFAULT 0 NOT NULL, 
	decided INTEGER DEFAULT 0 NOT NULL, 
	run_length INTEGER DEFAULT 0 NOT NULL, 
	longest_run INTEGER DEFAULT 0 NOT NULL, 
	active_ms_total DOUBLE DEFAULT 0 NOT NULL, 
	last_side INTEGER, 
	last_at DOUBLE, 
	CONSTRAINT pk_work_counts PRIMARY KEY (project, annotator_id), 
	CONSTRAINT fk_work_counts_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT fk_work_counts_project FOREIGN KEY(project) REFERENCES projects (name)
);
INSERT INTO "work_counts" VALUES('safety é','8aeb26281b2bd4984f3ab42454c5f77f',1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0.0,NULL,NULL);
CREATE INDEX ix_items_claimable ON items (project, priority, ord) WHERE taken < need AND status = 'open';
CREATE INDEX ix_presentations_item_id_annotator_id ON presentations (item_id, annotator_id);
CREATE INDEX ix_labels_item_id ON labels (item_id);
CREATE TRIGGER events_refuse_update BEFORE update ON events BEGIN SELECT RAISE(ABORT, 'events are never changed: add a revision'); END;
CREATE TRIGGER events_refuse_delete BEFORE delete ON events BEGIN SELECT RAISE(ABORT, 'events are never changed: add a revision'); END;
CREATE TRIGGER presentations_count_insert AFTER INSERT ON presentations WHEN NEW.state IN ('held', 'submitted')
    BEGIN UPDATE items SET taken = taken + 1 WHERE id = NEW.item_id; END;
CREATE TRIGGER presentations_count_update AFTER UPDATE ON presentations
    WHEN (OLD.state IN ('held', 'submitted')) <> (NEW.state IN ('held', 'submitted'))
    BEGIN UPDATE items SET taken = taken + CASE WHEN NEW.state IN ('held', 'submitted') THEN 1 ELSE -1 END WHERE id = NEW.item_id; END;
CREATE TRIGGER presentations_count_delete AFTER DELETE ON presentations WHEN OLD.state IN ('held', 'submitted')
    BEGIN UPDATE items SET taken = taken - 1 WHERE id = OLD.item_id; END;
CREATE TRIGGER presentations_keep_item BEFORE UPDATE OF item_id ON presentations WHEN OLD.item_id <> NEW.item_id
    BEGIN SELECT RAISE(ABORT, 'a presentation keeps its item'); END;
CREATE INDEX ix_judgments_item_id ON judgments (item_id);
CREATE TRIGGER judgments_refuse_update BEFORE update ON judgments BEGIN SELECT RAISE(ABORT, 'judgments are never changed: add a revision'); END;
CREATE TRIGGER judgments_refuse_delete BEFORE delete ON judgments BEGIN SELECT RAISE(ABORT, 'judgments are never changed: add a revision'); END;
CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    WHEN NOT EXISTS (SELECT 1 FROM judgments WHERE judgments.item_id = NEW.item_id)
    BEGIN SELECT RAISE(ABORT, 'a label needs a judgment of its item'); END;
CREATE INDEX ix_items_injected ON items (project, purpose, ord) WHERE purpose <> 'task';
CREATE INDEX ix_items_adjudicate ON items (project, priority, ord) WHERE status = 'adjudicate';
CREATE INDEX ix_presentations_expires ON presentations (expires) WHERE state = 'held';
CREATE INDEX ix_presentations_claimed ON presentations (annotator_id, issued) WHERE issued IS NOT NULL;
CREATE INDEX ix_accounts_external_id ON accounts (external_id);
CREATE INDEX ix_sessions_expires ON sessions (expires);
CREATE INDEX ix_sessions_account_id ON sessions (account_id);
CREATE INDEX ix_api_tokens_account_id ON api_tokens (account_id);
CREATE UNIQUE INDEX uq_presentations_held_once ON presentations (annotator_id, item_id) WHERE state = 'held';
COMMIT;
