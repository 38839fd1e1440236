BEGIN TRANSACTION;
CREATE TABLE account (
	name TEXT NOT NULL, 
	password_hash TEXT NOT NULL, 
	authority TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE api_client (
	client_id TEXT NOT NULL, 
	secret_hash TEXT NOT NULL, 
	tenants TEXT NOT NULL, 
	role TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id)
);
CREATE TABLE command (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id BIGINT NOT NULL, 
	outgoing_ri TEXT NOT NULL, 
	outgoing_rn TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	method TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	content TEXT NOT NULL, 
	content_info TEXT, 
	step TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, 
	changed_ms BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, priority BIGINT DEFAULT '0' NOT NULL, 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
);
INSERT INTO "command" VALUES(1,1,'6d73672d3100000000000000','msg-1','msg-1-0','read','{"op":"Read","path":"/3/0/0","accept":null}','"READ /3/0/0"',NULL,'succeeded',1760000000000,1760000060000,1760000000005,'','',0);
INSERT INTO "command" VALUES(2,1,'6d73672d3100000000000000','msg-1','msg-1-1','read','{"op":"Read","path":"/3/0/1","accept":null}','"READ /3/0/1"',NULL,'queued',1760000000000,1760000060000,1760000000000,'','',0);
CREATE TABLE credential (
	device_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	secret BLOB NOT NULL, 
	description TEXT NOT NULL, 
	envelope TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (identity)
);
INSERT INTO "credential" VALUES(1,'meter-1@psk',X'019349514907CF47534635C05C7D1E59EB823B93C2317DABCAE9798CAE465D32031051191956B4014D6E','cred','m2m:crds',1760000000000,1760000000000);
CREATE TABLE device (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	tenant_id BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	node_id TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	security TEXT NOT NULL, 
	device_info TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, resource_key TEXT DEFAULT '' NOT NULL, gateway_id BIGINT DEFAULT '0' NOT NULL, gateway_prefix TEXT DEFAULT '' NOT NULL, 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id), 
	UNIQUE (node_id), 
	UNIQUE (tenant_id, name)
);
INSERT INTO "device" VALUES(1,1,'meter-1','urn:imei:1234','["d2c-uplink-property_Room:1"]','SCS-LwM2M','psk','[]',1760000000000,1760000000000,'a05afa4ef2dd57a90dcee4',0,'');
CREATE TABLE device_alias (
	alias TEXT NOT NULL, 
	rank BIGINT NOT NULL, 
	device_id BIGINT NOT NULL, 
	PRIMARY KEY (alias, rank, device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "device_alias" VALUES('1234',4,1);
INSERT INTO "device_alias" VALUES('imei:1234',3,1);
INSERT INTO "device_alias" VALUES('meter-1',5,1);
INSERT INTO "device_alias" VALUES('urn:imei:1234',2,1);
CREATE TABLE journal (
	first INTEGER NOT NULL, 
	last BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	receipts BLOB NOT NULL, 
	entries BLOB NOT NULL, 
	PRIMARY KEY (first)
);
INSERT INTO "journal" VALUES(1,1,1760000000001,X'0100000000000000',X'919F0101CF00000199C82CC001C4080100000000000000CCC9A028C4213C2F312F303E2C3C2F332F303E2C3C2F333330332F303E3B7665723D22312E312290A46C6F6331AE75726E3A696D65693A6465762D31A0D93C65703D75726E3A696D65693A6465762D31266C776D326D3D312E31266C743D3330302066726F6D207564703A2F2F3139322E302E322E373A3536383300A0');
INSERT INTO "journal" VALUES(2,3,1760000000003,X'02000000000000000300000000000000',X'929F0501CF00000199C82CC002C4080200000000000000CCCCA12F6EC43A5B7B22626E223A222F333330332F302F222C226E223A2235373030222C2276223A32312E357D2C7B226E223A2235363031222C2276223A317D5D91A6526F6F6D3A31A0A0A0A000A09F0201CF00000199C82CC003C4080300000000000000CCCCA0FFC40090A46C6F6331A0A0A000A0');
INSERT INTO "journal" VALUES(4,4,1760000000006,X'0600000000000000',X'919F0501CF00000199C82CC006C4080600000000000000CCCCA12F6EC43A5B7B22626E223A222F333330332F302F222C226E223A2235373030222C2276223A32312E357D2C7B226E223A2235363031222C2276223A317D5D90A0A0A0A000A0');
CREATE TABLE message_container (
	device_id BIGINT NOT NULL, 
	container TEXT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id, container), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "message_container" VALUES(1,'outgoing-msg',1,1760000000000);
INSERT INTO "message_container" VALUES(1,'sent-msg',1,1760000000004);
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('salt',X'A64809BC8677AABA6D59B5357E9A5FF4');
CREATE TABLE object_list (
	profile_id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (profile_id)
);
CREATE TABLE object_model (
	tenant TEXT NOT NULL, 
	object_id BIGINT NOT NULL, 
	version TEXT NOT NULL, 
	name TEXT NOT NULL, 
	file_name TEXT NOT NULL, 
	source BLOB NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (tenant, object_id, version)
);
CREATE TABLE observation (
	device_id BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	token BLOB NOT NULL, 
	accept BIGINT, 
	attributes TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id, path), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (token)
);
INSERT INTO "observation" VALUES(1,'/3303/0',X'746F6B656E2D3031',112,'[["pmin","5"],["gt",null]]','["outgoing_msgRN:m","requestId:r"]',1760000000000);
CREATE TABLE outgoing_message (
	device_id BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	content_size BIGINT NOT NULL, 
	content_info TEXT, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (device_id, state_tag), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (device_id, resource_name)
)
 WITHOUT ROWID

;
INSERT INTO "outgoing_message" VALUES(1,1,'6d73672d3100000000000000','msg-1',1760000000000,11,NULL,'CApp','["a:b"]','"READ /3/0/0"');
CREATE TABLE profile (
	tenant_id BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (tenant_id, name), 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);
CREATE TABLE registration (
	device_id INTEGER NOT NULL, 
	location TEXT NOT NULL, 
	endpoint_name TEXT NOT NULL, 
	peer TEXT NOT NULL, 
	version TEXT NOT NULL, 
	lifetime_s BIGINT NOT NULL, 
	binding TEXT NOT NULL, 
	queue_mode BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	content_formats TEXT NOT NULL, 
	registered_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	sms TEXT NOT NULL, 
	extra TEXT NOT NULL, 
	deadline_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (location)
);
INSERT INTO "registration" VALUES(1,'loc1','urn:imei:dev-1','udp 192.0.2.7 5683 192.0.2.1 5683','1.1',300,'U',0,X'3C2F312F303E2C3C2F332F303E2C3C2F333330332F303E3B7665723D22312E3122','null',1760000000000,1760000000000,'','[["x","1"]]',1760000300000);
CREATE TABLE removed_device (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id BIGINT NOT NULL, 
	seq BIGINT NOT NULL
);
INSERT INTO "removed_device" VALUES(1,2,0);
CREATE TABLE sent_message (
	device_id BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	content_size BIGINT NOT NULL, 
	content_info TEXT, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	content TEXT NOT NULL, 
	command_id BIGINT NOT NULL, 
	PRIMARY KEY (device_id, state_tag), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (command_id)
)
 WITHOUT ROWID

;
INSERT INTO "sent_message" VALUES(1,1,'b54be6a4ab7459addb512ce7','a997cdd6-7d96-85ea-acf4-900269dc02e3',1760000000004,11,NULL,'CNI-IPE','["outgoing_msgRN:msg-1","requestId:msg-1-0"]','"READ /3/0/0"',1);
ANALYZE "sqlite_master";
INSERT INTO "sqlite_stat1" VALUES('observation','sqlite_autoindex_observation_2','1 1');
INSERT INTO "sqlite_stat1" VALUES('observation','sqlite_autoindex_observation_1','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('device_alias','device_alias_of_device','4 4');
INSERT INTO "sqlite_stat1" VALUES('device_alias','device_alias','4 1 1 1');
INSERT INTO "sqlite_stat1" VALUES('message_container','message_container','2 2 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_due','1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_open_of_device','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_open','1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_of_outgoing','2 2');
INSERT INTO "sqlite_stat1" VALUES('command','command_of_device','2 2');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sent_message_by_resource_id','1 1');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sqlite_autoindex_sent_message_2','1 1');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sent_message','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('tenant','sqlite_autoindex_tenant_1','1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','outgoing_message_by_resource_id','1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','sqlite_autoindex_outgoing_message_2','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','outgoing_message','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('device','device_by_resource_key','1 1');
INSERT INTO "sqlite_stat1" VALUES('device','sqlite_autoindex_device_2','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('device','sqlite_autoindex_device_1','1 1');
INSERT INTO "sqlite_stat1" VALUES('tree_resource','tree_resource_by_id','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('tree_resource','sqlite_autoindex_tree_resource_1','1 1 1 1');
CREATE TABLE tenant (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "tenant" VALUES(1,'default',1760000000000);
CREATE TABLE tree_resource (
	tenant_id BIGINT NOT NULL, 
	parent TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_type BIGINT NOT NULL, 
	envelope TEXT NOT NULL, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (tenant_id, parent, resource_name), 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);
INSERT INTO "tree_resource" VALUES(1,'default','app-1','000000000000000000000000',2,'m2m:ae','CAdmin','["x","y:z"]',1760000000000,1760000000000,0,'{"api":"N1","poa":["http://x"],"rr":true}');
CREATE INDEX command_of_device ON command (device_id);
CREATE INDEX command_of_outgoing ON command (outgoing_ri);
CREATE INDEX command_open ON command (id) WHERE step IN ('queued','sent','delivered');
CREATE INDEX command_open_of_device ON command (device_id, id) WHERE step IN ('queued','sent','delivered');
CREATE INDEX device_alias_of_device ON device_alias (device_id);
CREATE INDEX outgoing_message_by_resource_id ON outgoing_message (resource_id);
CREATE INDEX registration_by_deadline ON registration (deadline_ms);
CREATE INDEX registration_of_peer ON registration (peer);
CREATE INDEX command_due ON command (expires_ms) WHERE step IN ('queued','sent','delivered');
CREATE INDEX sent_message_by_resource_id ON sent_message (resource_id);
CREATE INDEX tree_resource_by_id ON tree_resource (tenant_id, resource_id);
CREATE INDEX device_by_resource_key ON device (resource_key);
CREATE INDEX device_of_gateway ON device (gateway_id) WHERE gateway_id > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('device',2);
INSERT INTO "sqlite_sequence" VALUES('removed_device',1);
INSERT INTO "sqlite_sequence" VALUES('command',2);
COMMIT;
